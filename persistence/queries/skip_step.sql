SELECT recorded, step_status, execution_id, execution_status, ready_steps, ready_attempts
  FROM skip_step(%(step_id)s::uuid, %(attempt)s::integer)
