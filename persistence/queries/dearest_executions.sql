-- The executions that ended on so many UTC days, today included, and cost most.
SELECT x.* FROM (
  SELECT DISTINCT ON (d.execution_id) d.execution_id AS id, d.workflow, d.title, d.status, d.cost_nanos, d.day,
         EXISTS (SELECT FROM workflow_executions e WHERE e.id = d.execution_id) AS kept
    FROM dear_executions d WHERE d.day > (now() AT TIME ZONE 'UTC')::date - %(days)s::integer
   ORDER BY d.execution_id, d.day DESC) x
 ORDER BY x.cost_nanos DESC, x.id LIMIT %(limit)s::integer
