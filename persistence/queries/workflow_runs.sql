-- The newest runs of a workflow in these versions, newest first; `steps`: how many steps they have.
SELECT e.id, e.status, e.title, e.triggered_by, e.created_at, e.started_at, e.completed_at, e.cost_nanos, e.workflow_id,
       left(e.error, 200) AS error,
       (SELECT max(s.step_index) + 1 FROM workflow_steps s WHERE s.execution_id = e.id) AS steps
  FROM (SELECT newest.id
          FROM unnest(%(workflow_ids)s::uuid[]) w(id)
         CROSS JOIN LATERAL (SELECT x.id, x.created_at FROM workflow_executions x
                              WHERE x.workflow_id = w.id ORDER BY x.created_at DESC, x.id DESC
                              LIMIT %(limit)s::integer) newest
         ORDER BY newest.created_at DESC, newest.id DESC LIMIT %(limit)s::integer) n
  JOIN workflow_executions e ON e.id = n.id
 ORDER BY e.created_at DESC, e.id DESC
