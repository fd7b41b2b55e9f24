SELECT pg_advisory_unlock(hashtextextended('afu9 archive', 0))
