"""Does: the Dramatiq entry, the step actor, the retry middleware, leases and the MCP client."""
