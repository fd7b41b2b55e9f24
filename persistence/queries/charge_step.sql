SELECT recorded, step_status, execution_id, execution_status, ready_steps, ready_attempts
  FROM charge_step(%(step_id)s::uuid, %(attempt)s::integer, %(kind)s, %(error)s, %(retryable)s::boolean,
                   %(delay_ms)s::integer, %(input)s::jsonb, false, 0,
                   %(cost)s::bigint, %(unpriced)s::boolean)
