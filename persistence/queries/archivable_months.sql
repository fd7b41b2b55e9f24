-- Executions at rest that ended before %(older_than)s, by month (UTC).
SELECT to_char(date_trunc('month', e.completed_at AT TIME ZONE 'UTC'), 'YYYY-MM') AS month, count(*) AS executions
  FROM workflow_executions e
 WHERE e.completed_at < %(older_than)s::timestamptz AND e.status IN ('completed', 'failed', 'cancelled')
 GROUP BY 1 ORDER BY 1
