"""The MCP client of the workers: `McpClient(load_servers(path, environ)).call(server, tool, arguments)`.

Read on: client.py (the surface), peer.py (a server), detect.py (which protocol), http_channel.py and stdio_channel.py
(the two transports), failures.py (what a failure means), results.py (what a step stores).
"""

from workers.mcp_client.client import McpClient
from workers.mcp_client.health import ServerHealth
from workers.mcp_client.load import load_servers
from workers.mcp_client.retry import retry_is_safe
from workers.mcp_client.servers import ServerConfig

__all__ = [
    "McpClient",
    "ServerConfig",
    "ServerHealth",
    "load_servers",
    "retry_is_safe",
]
