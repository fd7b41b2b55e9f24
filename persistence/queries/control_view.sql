-- An execution as a control looks at it, without payloads. `steps`: [{id, name, index, status, tool, assign, successors, error_kind}].
SELECT e.id, e.status, e.definition_hash, e.workflow_id, e.continue_on_error, d.definition::text AS definition,
       (SELECT coalesce(json_agg(json_build_object('id', s.id, 'name', s.step_name, 'index', s.step_index, 'status', s.status,
                                                   'tool', s.tool, 'assign', s.assign, 'successors', s.successors,
                                                   'error_kind', s.error_kind) ORDER BY s.step_index), '[]')
          FROM workflow_steps s WHERE s.execution_id = e.id) AS steps
  FROM workflow_executions e LEFT JOIN workflow_definitions d ON d.hash = e.definition_hash
 WHERE e.id = %(id)s
