"""A server built with FastMCP. Run as a program: `python fast_server.py stdio|json|sse`.

json: stateless with JSON answers; sse: sessions and event streams. Both print their URL first.
"""

from __future__ import annotations

import socket
import sys

import uvicorn
from fastmcp import FastMCP

server = FastMCP("tests")


@server.tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool
def profile(name: str) -> dict[str, object]:
    """An object."""
    return {"name": name, "tags": ["a", "b"]}


@server.tool
def boom() -> str:
    """Always fails."""
    raise ValueError("no such luck")


def main() -> None:
    if sys.argv[1] == "stdio":
        server.run(transport="stdio", show_banner=False)
        return
    stateless = sys.argv[1] == "json"
    app = server.http_app(path="/mcp", json_response=stateless, stateless_http=stateless)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="error")).run([listener])


if __name__ == "__main__":
    main()
