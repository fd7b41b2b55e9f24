SELECT e.id, e.status, e.error, e.started_at, e.completed_at, now() AS read_at,
       count(s.id) AS steps_total,
       count(s.id) FILTER (WHERE s.status IN ('completed', 'skipped', 'failed')) AS steps_done,
       min(s.step_index) FILTER (WHERE s.status = 'running') AS running_index,
       (array_agg(s.step_name ORDER BY s.step_index) FILTER (WHERE s.status = 'running'))[1] AS running_name,
       sum(s.retry_count) AS retries
  FROM workflow_executions e LEFT JOIN workflow_steps s ON s.execution_id = e.id
 WHERE e.id = ANY (%(ids)s::uuid[])
 GROUP BY e.id
