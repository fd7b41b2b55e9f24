SELECT id, step_id, attempt, event, kind, message, actor, started_at, created_at, detail
  FROM workflow_events
 WHERE execution_id = %(execution_id)s
 ORDER BY id
