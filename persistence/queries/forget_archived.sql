-- They are in the tables again.
DELETE FROM archived_executions WHERE execution_id = ANY (%(ids)s::uuid[])
