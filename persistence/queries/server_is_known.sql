SELECT EXISTS (SELECT FROM mcp_servers WHERE name = %(server)s AND (fetched_at IS NOT NULL OR error IS NOT NULL)) AS known
