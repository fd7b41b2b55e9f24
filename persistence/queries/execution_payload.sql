-- What a new execution beside this one begins with.
SELECT e.input, execution_context(e.id) AS context, e.title, e.labels FROM workflow_executions e WHERE e.id = %(id)s
