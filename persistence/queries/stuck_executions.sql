-- Executions that nothing will ever move: neither at rest nor paused, and without a step that the dispatcher or the
-- reaper will take up. The reaper takes up a running step when its worker falls silent or is gone and when its deadline is
-- past; five minutes after the deadline it has not. Those of update_execution_status (no definition) are their caller's.
SELECT e.id FROM workflow_executions e
 WHERE e.status IN ('pending', 'running') AND e.definition_hash IS NOT NULL
   AND (e.status = 'pending' OR (
     NOT EXISTS (SELECT FROM workflow_steps s
                  WHERE s.execution_id = e.id AND s.dispatch_after IS NOT NULL AND s.status = 'pending'
                    AND s.needs_left = 0 AND s.next_run_at IS NOT NULL)
     AND NOT EXISTS (SELECT FROM workflow_steps s
                      WHERE s.execution_id = e.id AND s.status = 'running' AND s.worker_id IS NOT NULL
                        AND s.deadline_at > now() - interval '5 minutes')))
 LIMIT %(limit)s::integer
