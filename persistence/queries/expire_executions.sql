SELECT execution_id FROM expire_executions(%(limit)s::integer)
