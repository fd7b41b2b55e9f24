"""An MCP server over stdio whose one tool kills whoever started it."""

from __future__ import annotations

import os
import signal

from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("deadly")


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def poison() -> str:
    """Kills the worker in the middle of the call."""
    os.kill(os.getppid(), signal.SIGKILL)
    return "never heard"


if __name__ == "__main__":
    server.run("stdio")
