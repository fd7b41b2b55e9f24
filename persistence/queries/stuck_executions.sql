-- stuck_executions
-- Executions that nothing will ever move: neither at rest nor paused, and without a step that the dispatcher or the
-- reaper will take up. The reaper takes up a running step when its worker falls silent or is gone and when its deadline is
-- past; five minutes after the deadline it has not. Those of update_execution_status (no definition) are their caller's.
-- The oldest 20,000 are looked at: whatever is stuck grows old.
SELECT e.id
  FROM ((SELECT x.id, x.status FROM workflow_executions x
          WHERE x.status = 'pending' AND x.definition_hash IS NOT NULL ORDER BY x.created_at, x.id LIMIT 20000)
         UNION ALL
        (SELECT x.id, x.status FROM workflow_executions x
          WHERE x.status = 'running' AND x.definition_hash IS NOT NULL ORDER BY x.created_at, x.id LIMIT 20000)) e
 WHERE e.status = 'pending' OR (
     NOT EXISTS (SELECT FROM workflow_steps s
                  WHERE s.execution_id = e.id AND s.dispatch_after IS NOT NULL AND s.status = 'pending'
                    AND s.needs_left = 0 AND s.next_run_at IS NOT NULL)
     AND NOT EXISTS (SELECT FROM workflow_steps s
                      WHERE s.execution_id = e.id AND s.status = 'running' AND s.worker_id IS NOT NULL
                        AND s.deadline_at > now() - interval '5 minutes'))
 LIMIT %(limit)s::integer
