-- What is compared of executions, but for their steps: of the context what was given, without what steps assigned.
SELECT e.id, e.status, e.input, e.error, e.title, e.created_at, e.started_at, e.completed_at, e.definition_hash, d.definition,
       c.context - 'input' - 'variables' AS context,
       CASE WHEN jsonb_typeof(c.context -> 'variables') = 'object' THEN c.context -> 'variables' ELSE '{}' END
         - ARRAY(SELECT s.assign FROM workflow_steps s WHERE s.execution_id = e.id AND s.assign IS NOT NULL) AS variables
  FROM workflow_executions e
 CROSS JOIN LATERAL (SELECT CASE WHEN jsonb_typeof(e.context) = 'object' THEN e.context ELSE '{}' END AS context) c
  LEFT JOIN workflow_definitions d ON d.hash = e.definition_hash
 WHERE e.id = ANY (%(ids)s::uuid[])
