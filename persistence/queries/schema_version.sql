SELECT coalesce(max(version), 0) AS version FROM afu9_migrations
