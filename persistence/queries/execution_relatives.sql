-- The runs of the same version of a workflow just before and after an execution, and what was made of it, newest first.
SELECT (SELECT p.id FROM workflow_executions p
         WHERE p.workflow_id = e.workflow_id AND (p.created_at, p.id) < (e.created_at, e.id)
         ORDER BY p.created_at DESC, p.id DESC LIMIT 1) AS previous_id,
       (SELECT n.id FROM workflow_executions n
         WHERE n.workflow_id = e.workflow_id AND (n.created_at, n.id) > (e.created_at, e.id)
         ORDER BY n.created_at, n.id LIMIT 1) AS next_id,
       ARRAY(SELECT f.id FROM workflow_executions f WHERE f.forked_from = e.id ORDER BY f.created_at DESC LIMIT 20) AS forks
  FROM workflow_executions e
 WHERE e.id = %(id)s
