SELECT done, execution_status, ready_steps, ready_attempts
  FROM rerun_steps(%(execution_id)s::uuid, %(action)s, %(steps)s::integer[], %(overrides)s::jsonb, %(expected)s,
                   %(actor)s, %(reason)s)
