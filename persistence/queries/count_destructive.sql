-- Of these executions, where their status is one of `takes`: steps that have yet to run and whose tool's server says that it may
-- destroy, and in how many executions. At most `limit` steps.
SELECT count(*) AS steps, count(DISTINCT f.execution_id) AS executions
  FROM (
SELECT s.execution_id
  FROM workflow_executions e
  JOIN workflow_steps s ON s.execution_id = e.id AND s.status IN ('pending', 'running', 'failed')
  JOIN mcp_tools t ON t.server = split_part(s.tool, '.', 1) AND t.tool = substr(s.tool, strpos(s.tool, '.') + 1)
 WHERE e.id = ANY (%(ids)s::uuid[]) AND e.status = ANY (%(takes)s::text[]) AND e.definition_hash IS NOT NULL
   AND t.annotations @> '{"destructiveHint": true}' AND NOT t.annotations @> '{"readOnlyHint": true}'
   AND NOT (s.status = 'failed' AND e.continue_on_error)
 LIMIT %(limit)s::integer) f
