-- Executions with these labels, at most so many, with everything about them.
DELETE FROM workflow_executions
 WHERE id IN (SELECT id FROM workflow_executions WHERE labels @> %(labels)s::jsonb AND labels <> '{}' LIMIT %(limit)s::integer)
RETURNING id
