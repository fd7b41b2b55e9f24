SELECT done, execution_status, execution_id, ready_steps, ready_attempts
  FROM fork_execution(%(source)s::uuid, %(action)s, %(hash)s, %(workflow_id)s::uuid, %(request)s::jsonb, %(reused)s::jsonb,
                      %(actor)s, %(reason)s)
