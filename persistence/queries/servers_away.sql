-- servers_away
-- MCP servers, and whether the newest look at their tools failed.
SELECT name, error IS NOT NULL AS away FROM mcp_servers ORDER BY name LIMIT %(limit)s::integer
