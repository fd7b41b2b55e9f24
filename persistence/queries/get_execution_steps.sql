SELECT id, execution_id, step_name, step_index, status, input, output, started_at, completed_at, duration_ms, error,
       retry_count, created_at, updated_at, tool, assign, attempt, max_retries, next_run_at, worker_id, claimed_at,
       deadline_at, lost_count, released_count, error_kind, override, reused_from,
       cost_nanos, unpriced_calls
  FROM workflow_steps
 WHERE execution_id = %(execution_id)s
 ORDER BY step_index
