-- Until when what ended is counted; null: nobody has counted yet.
SELECT (SELECT rolled_until FROM rollup_progress) AS rolled_until, now() AS read_at
