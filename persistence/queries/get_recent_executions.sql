SELECT e.id, e.workflow_id, e.status, e.input, e.output, e.context, e.started_at, e.completed_at, e.error,
       e.triggered_by, e.github_run_id, e.created_at, e.updated_at, e.title, d.definition ->> 'name' AS workflow_name
  FROM workflow_executions e LEFT JOIN workflow_definitions d ON d.hash = e.definition_hash
 ORDER BY e.started_at DESC
 LIMIT %(limit)s::integer
