-- One archive or restore at a time, as long as its connection.
SELECT pg_try_advisory_lock(hashtextextended('afu9 archive', 0)) AS locked
