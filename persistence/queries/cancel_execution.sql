SELECT done, execution_status
  FROM cancel_execution(%(execution_id)s::uuid, %(actor)s, %(reason)s)
