-- Starts executions of a workflow's newest version, in one round trip. No row: there is no such workflow; no execution_id: it
-- is disabled.
SELECT w.id AS workflow_id, w.enabled, s.execution_id, s.created, s.ready_steps
  FROM (SELECT id, enabled, definition_hash FROM workflows WHERE name = %(name)s ORDER BY version DESC LIMIT 1) w
  LEFT JOIN LATERAL submit_executions(w.definition_hash,
                                      CASE WHEN w.enabled THEN %(requests)s::jsonb ELSE '[]' END, w.id) s ON true
