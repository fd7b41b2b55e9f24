-- Where the executions went whose ids lie in these bounds.
SELECT x.execution_id, a.created_at, a.location
  FROM archived_executions x JOIN workflow_archives a ON a.id = x.archive
 WHERE x.execution_id BETWEEN %(first)s::uuid AND %(last)s::uuid
 ORDER BY x.execution_id
 LIMIT 2
