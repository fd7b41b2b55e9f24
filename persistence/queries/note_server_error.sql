UPDATE mcp_servers SET error = %(error)s WHERE name = %(server)s
