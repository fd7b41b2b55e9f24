-- Executions that nothing will ever move: running, and neither a step in a live worker's hands nor one to be dispatched.
SELECT e.id FROM workflow_executions e
 WHERE e.status = 'running' AND e.definition_hash IS NOT NULL
   AND NOT EXISTS (SELECT FROM workflow_steps s WHERE s.execution_id = e.id
                      AND (s.dispatch_after IS NOT NULL OR (s.status = 'running' AND s.worker_id IS NOT NULL AND s.deadline_at > now() - interval '5 minutes')))
 LIMIT %(limit)s::integer
