SELECT coalesce(array_agg(s.id), '{}') AS stopped
  FROM workflow_steps s JOIN workflow_executions e ON e.id = s.execution_id
 WHERE s.worker_id = %(worker_id)s::uuid AND s.status = 'running' 
   AND (e.status = 'cancelled' OR (e.status = 'failed' AND e.deadline_at < now()))
