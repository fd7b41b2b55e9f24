SELECT t.server, t.tool, t.description, t.input_schema, t.output_schema, t.annotations, t.repeatable, t.hash, t.fetched_at,
       t.changed_at, s.era
  FROM mcp_tools t JOIN mcp_servers s ON s.name = t.server
 WHERE (%(server)s::text IS NULL OR t.server = %(server)s)
 ORDER BY t.server, t.tool
