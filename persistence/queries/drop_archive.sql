-- A run that has taken nothing.
DELETE FROM workflow_archives WHERE id = %(id)s AND executions = 0
