-- expire_executions
SELECT x.execution_id, w.workflow
  FROM expire_executions(%(limit)s::integer) x
  LEFT JOIN LATERAL (SELECT d.name AS workflow FROM workflow_executions e
                       LEFT JOIN workflow_definitions d ON d.hash = e.definition_hash
                      WHERE e.id = x.execution_id OFFSET 0) w ON true
