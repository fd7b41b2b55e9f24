-- Of these executions, where their status is one of `takes`: steps that have yet to run and whose tool's server says that it may
-- destroy, and in how many executions. `looked`: at so many steps, at most `limit`.
SELECT count(*) FILTER (WHERE f.destroys) AS steps, count(DISTINCT f.execution_id) FILTER (WHERE f.destroys) AS executions,
       count(*) AS looked
  FROM (SELECT s.execution_id, s.status IN ('pending', 'running', 'failed') AND NOT (s.status = 'failed' AND e.continue_on_error)
               AND EXISTS (SELECT FROM mcp_tools t
                            WHERE t.server = split_part(s.tool, '.', 1) AND t.tool = substr(s.tool, strpos(s.tool, '.') + 1)
                              AND t.annotations @> '{"destructiveHint": true}' AND NOT t.annotations @> '{"readOnlyHint": true}')
                 AS destroys
          FROM workflow_executions e JOIN workflow_steps s ON s.execution_id = e.id
         WHERE e.id = ANY (%(ids)s::uuid[]) AND e.status = ANY (%(takes)s::text[]) AND e.definition_hash IS NOT NULL
         LIMIT %(limit)s::integer) f
