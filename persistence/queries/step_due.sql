-- For the engine in the caller's own process: what is runnable of one execution, and when the next retry is due.
SELECT id, attempt, greatest(extract(epoch FROM next_run_at - now()), 0)::double precision AS due_in
  FROM workflow_steps
 WHERE execution_id = %(execution_id)s AND status = 'pending' AND needs_left = 0 AND next_run_at IS NOT NULL
 ORDER BY next_run_at
 LIMIT 1
