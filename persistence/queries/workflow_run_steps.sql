-- The steps of several executions from one index to before another, without payloads.
SELECT s.execution_id, s.step_name, s.step_index, s.status, s.tool, s.duration_ms, s.attempt, s.retry_count, s.error_kind,
       left(s.error, 120) AS error, s.reused_from IS NOT NULL AS reused, s.cost_nanos
  FROM workflow_steps s
 WHERE s.execution_id = ANY (%(ids)s::uuid[]) AND s.step_index >= %(first)s::integer AND s.step_index < %(until)s::integer
 ORDER BY s.execution_id, s.step_index
