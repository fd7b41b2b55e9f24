-- Tools ('server.tool') as a definition of `since` sees them now. `known`: in the catalogue; `server_known`: its server has listed
-- its tools; `changed_at`: when its schemas last became others after `since`.
SELECT w.tool, t.tool IS NOT NULL AS known, s.fetched_at IS NOT NULL AS server_known, s.error, t.annotations, t.repeatable,
       (SELECT v.seen_at FROM mcp_tool_versions v
         WHERE v.server = w.server AND v.tool = w.name AND v.seen_at > %(since)s::timestamptz
           AND EXISTS (SELECT FROM mcp_tool_versions b WHERE b.server = v.server AND b.tool = v.tool AND b.seen_at < v.seen_at)
         ORDER BY v.seen_at DESC LIMIT 1) AS changed_at
  FROM (SELECT tool, split_part(tool, '.', 1) AS server, substr(tool, strpos(tool, '.') + 1) AS name
          FROM unnest(%(tools)s::text[]) u(tool)) w
  LEFT JOIN mcp_servers s ON s.name = w.server
  LEFT JOIN mcp_tools t ON t.server = w.server AND t.tool = w.name
 ORDER BY w.tool
