SELECT s.name, s.era, s.error, s.looked_at, s.fetched_at, count(t.tool) AS tools
  FROM mcp_servers s LEFT JOIN mcp_tools t ON t.server = s.name
 GROUP BY s.name ORDER BY s.name
