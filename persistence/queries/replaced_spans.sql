-- Results of an execution's steps that were replaced, without payloads, oldest first.
SELECT id, step_id, step_index, status, attempt, error, error_kind, started_at, completed_at, duration_ms, retry_count,
       control, replaced_at
  FROM workflow_step_results
 WHERE execution_id = %(execution_id)s
 ORDER BY id
