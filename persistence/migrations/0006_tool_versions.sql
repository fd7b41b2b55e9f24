-- The schemas that tools had, so that two executions can be compared by those in force when their steps ran.

CREATE TABLE mcp_tool_versions (
  server         TEXT NOT NULL,
  tool           TEXT NOT NULL,
  hash           TEXT NOT NULL,
  input_schema   JSONB,
  output_schema  JSONB,
  annotations    JSONB,
  seen_at        TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (server, tool, seen_at)
);

INSERT INTO mcp_tool_versions (server, tool, hash, input_schema, output_schema, annotations, seen_at)
SELECT t.server, t.tool, t.hash, t.input_schema, t.output_schema, t.annotations, t.changed_at FROM mcp_tools t;

-- Replaces a server's tools by what it listed now, adding to their history; answers those whose schema or annotations are
-- not what they were.
-- p_tools: [{tool, description, input_schema, output_schema, annotations, repeatable, hash}]
CREATE OR REPLACE FUNCTION store_tools(p_server TEXT, p_era TEXT, p_tools JSONB)
RETURNS TABLE (tool TEXT, change TEXT) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  UPDATE mcp_servers s SET era = p_era, error = NULL, fetched_at = now() WHERE s.name = p_server;
  RETURN QUERY
  WITH listed AS (
    SELECT l.* FROM jsonb_to_recordset(p_tools) l(tool TEXT, description TEXT, input_schema JSONB, output_schema JSONB,
                                                 annotations JSONB, repeatable BOOLEAN, hash TEXT)
  ), gone AS (
    DELETE FROM mcp_tools t WHERE t.server = p_server AND t.tool NOT IN (SELECT l.tool FROM listed l) RETURNING t.tool
  ), before AS (
    SELECT t.tool, t.hash FROM mcp_tools t WHERE t.server = p_server
  ), written AS (
    INSERT INTO mcp_tools AS t (server, tool, description, input_schema, output_schema, annotations, repeatable, hash)
    SELECT p_server, l.tool, l.description, l.input_schema, l.output_schema, l.annotations, l.repeatable, l.hash FROM listed l
    ON CONFLICT (server, tool) DO UPDATE
       SET description = EXCLUDED.description, input_schema = EXCLUDED.input_schema, output_schema = EXCLUDED.output_schema,
           annotations = EXCLUDED.annotations, repeatable = EXCLUDED.repeatable, hash = EXCLUDED.hash, fetched_at = now(),
           changed_at = CASE WHEN t.hash = EXCLUDED.hash THEN t.changed_at ELSE now() END
    RETURNING t.tool, t.hash
  ), kept AS (
    INSERT INTO mcp_tool_versions (server, tool, hash, input_schema, output_schema, annotations)
    SELECT p_server, l.tool, l.hash, l.input_schema, l.output_schema, l.annotations FROM listed l
     WHERE l.hash IS DISTINCT FROM (SELECT v.hash FROM mcp_tool_versions v WHERE v.server = p_server AND v.tool = l.tool
                                     ORDER BY v.seen_at DESC LIMIT 1))
  SELECT w.tool, CASE WHEN b.tool IS NULL THEN 'added' ELSE 'changed' END
    FROM written w LEFT JOIN before b ON b.tool = w.tool WHERE b.hash IS DISTINCT FROM w.hash
   UNION ALL
  SELECT g.tool, 'removed' FROM gone g;
END $$;
