"""A server built with FastMCP. Run as a program: `python mcp_fastmcp_server.py json|sse|stdio`.

json: stateless with JSON answers; sse: sessions for older clients and event streams. Both print their URL first.
"""

from __future__ import annotations

import socket
import sys
import threading

from fastmcp import FastMCP
from pydantic import BaseModel

server = FastMCP("tests")
together = threading.Barrier(8)


class Stock(BaseModel):
    """A result with a schema of its own."""

    item: str
    places: dict[str, int]


@server.tool(annotations={"readOnlyHint": True})
def stock(item: str, count: int) -> Stock:
    """How many of an item there are, and where."""
    return Stock(item=item, places={"north": count, "south": 0})


@server.tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool
def meet(number: int) -> int:
    """Answers once eight calls are here at the same time."""
    together.wait(timeout=15)
    return number


@server.tool
def boom() -> str:
    """Always fails."""
    raise ValueError("no such luck")


def main(mode: str) -> None:
    if mode == "stdio":
        server.run("stdio", show_banner=False)
        return
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    plain = mode == "json"
    server.run(
        "http", show_banner=False, log_level="error", sockets=[listener], stateless_http=plain, json_response=plain
    )


if __name__ == "__main__":
    main(sys.argv[1])
