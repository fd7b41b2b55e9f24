SELECT done, execution_status
  FROM pause_execution(%(execution_id)s::uuid, %(actor)s, %(reason)s)
