-- In which version executions are now; those that rest.
SELECT e.id, v.version
  FROM workflow_executions e, execution_version(e.id) v
 WHERE e.id = ANY (%(ids)s::uuid[]) AND e.status IN ('completed', 'failed', 'cancelled')
 ORDER BY e.id
