SELECT kind, name, actor, reason, created_at FROM holds ORDER BY created_at, kind, name
