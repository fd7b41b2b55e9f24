-- reap_steps
-- `ended`: the execution came to its end by it. The rows of `before` are as they were: a statement sees nothing that it does.
SELECT r.step_id, r.attempt, r.reason, r.step_status, r.execution_id, r.execution_status, r.ready_steps, r.ready_attempts,
       before.step_name, before.workflow,
       r.execution_status IN ('completed', 'failed') AND before.status IN ('running', 'paused') AS ended
  FROM reap_steps(%(silence)s::double precision, %(max_lost)s::integer, %(limit)s::integer) r
  LEFT JOIN LATERAL (SELECT s.step_name, e.status, d.name AS workflow
                       FROM workflow_steps s JOIN workflow_executions e ON e.id = s.execution_id
                       LEFT JOIN workflow_definitions d ON d.hash = e.definition_hash
                      WHERE s.id = r.step_id OFFSET 0) before ON true
