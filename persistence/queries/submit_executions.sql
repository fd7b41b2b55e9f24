SELECT execution_id, created, ready_steps
  FROM submit_executions(%(hash)s, %(requests)s::jsonb, %(workflow_id)s::uuid)
