"""The cheapest MCP server over HTTP, in a process of its own: one tool, `echo`, that answers after a delay.

python benchmarks/tool_server.py [SECONDS]         0 by default; prints its URL
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """What a server of 2026-07-28 with one tool says."""
    match message["method"]:
        case "server/discover":
            return {
                "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {}},
                "ttlMs": 0,
                "cacheScope": "private",
            }
        case "tools/list":
            return {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}], "ttlMs": 0, "cacheScope": "private"}
        case _:
            value = message["params"]["arguments"]
            return {"content": [{"type": "text", "text": json.dumps(value)}], "structuredContent": value}


class Connection(asyncio.Protocol):
    """Just enough HTTP/1.1: read a request by its length, write the answer, keep the connection."""

    transport: asyncio.Transport
    seconds = 0.0  # before a tool answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.read = transport, b""

    def data_received(self, data: bytes) -> None:
        self.read += data
        while (end := self.read.find(b"\r\n\r\n")) >= 0:
            length = int(self.read[:end].lower().split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self.read) < end + 4 + length:
                return
            message = json.loads(self.read[end + 4 : end + 4 + length])
            self.read = self.read[end + 4 + length :]
            self.respond(message)

    def respond(self, message: dict[str, Any]) -> None:
        result = {"resultType": "complete", **answer(message)}
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        delay = self.seconds if message["method"] == "tools/call" else 0
        asyncio.get_running_loop().call_later(delay, self.transport.write, head + body)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Connection.seconds = float(sys.argv[1])
    asyncio.run(serve())
