SELECT recorded, step_status, execution_id, execution_status, ready_steps, ready_attempts
  FROM complete_step(%(step_id)s::uuid, %(attempt)s::integer, %(output)s::jsonb, %(input)s::jsonb)
