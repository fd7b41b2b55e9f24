-- Executions that are paused, newest first, and who paused each, and why.
SELECT e.id, e.title, d.name AS workflow_name, e.paused_at, v.actor, v.message AS reason
  FROM workflow_executions e
  LEFT JOIN workflow_definitions d ON d.hash = e.definition_hash
  LEFT JOIN LATERAL (SELECT v.actor, v.message FROM workflow_events v
                      WHERE v.execution_id = e.id AND v.event = 'control' AND v.kind = 'pause'
                      ORDER BY v.id DESC LIMIT 1) v ON true
 WHERE e.status = 'paused'
 ORDER BY e.created_at DESC, e.id DESC
 LIMIT %(limit)s::integer
