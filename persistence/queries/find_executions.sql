SELECT id FROM workflow_executions
 WHERE id BETWEEN %(first)s::uuid AND %(last)s::uuid
 ORDER BY id
 LIMIT 2
