SELECT id, request_hash FROM workflow_executions WHERE id = ANY (%(ids)s::uuid[])
