SELECT execution_id, archive FROM archived_executions WHERE execution_id = ANY (%(ids)s::uuid[])
