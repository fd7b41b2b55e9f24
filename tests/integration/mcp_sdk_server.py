"""A server built with the official SDK. Run as a program: `python mcp_sdk_server.py json|sse|stdio`.

json: stateless with JSON answers; sse: sessions for older clients and event streams. Both print their URL first.
"""

from __future__ import annotations

import asyncio
import socket
import sys

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("tests")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def boom() -> str:
    """Always fails."""
    raise ValueError("no such luck")


@server.tool()
async def slow(seconds: float, ctx: Context) -> str:
    """Takes its time and reports progress."""
    await ctx.report_progress(0, 1)
    await asyncio.sleep(seconds)
    return "done"


@server.tool()
def key(ctx: Context) -> str:
    """The idempotency key as it arrived in `_meta`."""
    meta = ctx.request_context.meta
    return str((meta or {}).get("afu9.dev/idempotency-key"))


def main(mode: str) -> None:
    if mode == "stdio":
        server.run("stdio")
        return
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    app = server.streamable_http_app(stateless_http=mode == "json", json_response=mode == "json")
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])
