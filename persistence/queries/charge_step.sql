-- charge_step
-- `ended`: the execution came to its end by it. The rows of `before` are as they were: a statement sees nothing that it does.
SELECT c.recorded, c.step_status, c.execution_id, c.execution_status, c.ready_steps, c.ready_attempts,
       before.step_name, before.workflow,
       c.execution_status IN ('completed', 'failed') AND before.status IN ('running', 'paused') AS ended
  FROM charge_step(%(step_id)s::uuid, %(attempt)s::integer, %(kind)s, %(error)s, %(retryable)s::boolean,
                   %(delay_ms)s::integer, %(input)s::jsonb, false, 0,
                   %(cost)s::bigint, %(unpriced)s::boolean) c
  LEFT JOIN LATERAL (SELECT s.step_name, e.status, d.name AS workflow
                       FROM workflow_steps s JOIN workflow_executions e ON e.id = s.execution_id
                       LEFT JOIN workflow_definitions d ON d.hash = e.definition_hash
                      WHERE s.id = %(step_id)s::uuid OFFSET 0) before ON true
