SELECT done, execution_status, ready_steps, ready_attempts
  FROM resume_execution(%(execution_id)s::uuid, %(actor)s, %(reason)s)
