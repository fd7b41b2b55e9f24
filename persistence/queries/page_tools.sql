-- One page of the tools that servers offer, by name. What is null does not filter; `text` is looked for in SERVER.TOOL and in
-- what the tool says of itself.
SELECT t.server, t.tool, left(t.description, 2000) AS description, t.input_schema, t.output_schema, t.annotations, t.repeatable,
       t.fetched_at, t.changed_at
  FROM mcp_tools t
 WHERE (%(server)s::text IS NULL OR t.server = %(server)s)
   AND (%(text)s::text IS NULL OR t.server || '.' || t.tool ILIKE %(text)s OR t.description ILIKE %(text)s)
   AND (%(after_server)s::text IS NULL OR (t.server, t.tool) > (%(after_server)s, %(after_tool)s::text))
 ORDER BY t.server, t.tool
 LIMIT %(limit)s::integer
