-- For made-up data: the days' costs of these workflows anew, from their steps.
WITH gone AS (DELETE FROM cost_days WHERE workflow = ANY (%(workflows)s::text[]))
INSERT INTO cost_days (day, workflow, server, tool, slot, calls, unpriced_calls, cost_nanos)
SELECT (s.completed_at AT TIME ZONE 'UTC')::date, d.name, split_part(s.tool, '.', 1), substr(s.tool, strpos(s.tool, '.') + 1), 16,
       count(*), coalesce(sum(s.unpriced_calls), 0), coalesce(sum(s.cost_nanos), 0)
  FROM workflow_definitions d
  JOIN workflow_executions e ON e.definition_hash = d.hash
  JOIN workflow_steps s ON s.execution_id = e.id
 WHERE d.name = ANY (%(workflows)s::text[]) AND s.completed_at IS NOT NULL AND (s.cost_nanos IS NOT NULL OR s.unpriced_calls IS NOT NULL)
 GROUP BY 1, 2, 3, 4
