-- The steps of executions, each with the hash of its tool's schemas when it was last claimed: the newest seen by then, or
-- else the first seen later. The schemas themselves stand in the first row of each hash.
SELECT s.execution_id, s.step_name, s.step_index, s.status, s.tool, s.input, s.output, s.error, s.error_kind, s.retry_count,
       s.lost_count, s.duration_ms, (s.cost_nanos / 1e9)::float8 AS cost, v.hash AS tool_hash,
       CASE WHEN row_number() OVER (PARTITION BY s.tool, v.hash ORDER BY s.execution_id, s.step_index) = 1 THEN v.schemas END
         AS tool_schemas
  FROM workflow_steps s
  LEFT JOIN LATERAL (
    SELECT t.hash, jsonb_build_object('inputSchema', t.input_schema, 'outputSchema', t.output_schema,
                                      'annotations', t.annotations) AS schemas
      FROM mcp_tool_versions t
     WHERE t.server = split_part(s.tool, '.', 1) AND t.tool = substr(s.tool, strpos(s.tool, '.') + 1)
       AND s.claimed_at IS NOT NULL AND s.status <> 'skipped'
     ORDER BY t.seen_at <= s.claimed_at DESC, CASE WHEN t.seen_at <= s.claimed_at THEN t.seen_at END DESC, t.seen_at
     LIMIT 1) v ON true
 WHERE s.execution_id = ANY (%(ids)s::uuid[])
 ORDER BY s.execution_id, s.step_index
