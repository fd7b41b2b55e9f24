SELECT e.id, e.status, e.started_at, e.completed_at, left(e.error, 200) AS error, e.triggered_by,
       coalesce(e.title, d.definition ->> 'name') AS title
  FROM workflow_executions e LEFT JOIN workflow_definitions d ON d.hash = e.definition_hash
 WHERE (%(status)s::text IS NULL OR e.status = %(status)s)
 ORDER BY e.started_at DESC
 LIMIT %(limit)s::integer
