"""An MCP server with tools that wait, fail, grow and count on command, to see how a workflow behaves.

It speaks over stdin and stdout, or with --http PORT as streamable HTTP at http://127.0.0.1:PORT/mcp (0 takes a free
port; the port is the first line of the output). With --state FILE the counts of calls are kept in FILE, so that several
processes count together and a restart forgets nothing.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import PlainValidator

READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)

# The SDK parses text that looks like JSON for every parameter that is not annotated as `str`; echo must not.
AsGiven = Annotated[str, PlainValidator(lambda value: value, json_schema_input_type=Any)]

# Results as JSON text, each valid for some reader and impossible for some writer behind it.
WEIRD = {
    "nan": '{"value": NaN}',
    "nul": '{"value": "before\\u0000after"}',
    "surrogate": '{"value": "\\ud800"}',
}


class Calls:
    """How often each name was called; in memory, or in a file that processes share."""

    def __init__(self, file: Path | None):
        self._file = file
        self._lock = threading.Lock()
        self._memory: dict[str, int] = {}

    def add(self, name: str, calls: int = 1) -> int:
        """Adds to the count of a name and returns the new count."""
        with self._lock:
            if self._file is None:
                return _add(self._memory, name, calls)
            with self._file.open("a+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                counts: dict[str, int] = json.loads(file.read() or "{}")
                count = _add(counts, name, calls)
                file.truncate(0)
                file.write(json.dumps(counts))
            return count


def _add(counts: dict[str, int], name: str, calls: int) -> int:
    counts[name] = counts.get(name, 0) + calls
    return counts[name]


@dataclass(frozen=True)
class Echo:
    value: Any


@dataclass(frozen=True)
class Slept:
    seconds: float


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Attempt:
    """`first_try` is true if no call with this key failed."""

    key: str
    calls: int
    first_try: bool


@dataclass(frozen=True)
class Count:
    key: str
    calls: int


def create_server(calls: Calls) -> MCPServer:
    server = MCPServer("playground", version="1.0.0", log_level="WARNING", subscriptions=False)

    @server.tool(annotations=READS)
    def echo(value: AsGiven) -> Echo:
        """Gives the value back."""
        return Echo(value)

    @server.tool(annotations=READS)
    async def sleep(seconds: float) -> Slept:
        """Answers after so many seconds."""
        await anyio.sleep(seconds)
        return Slept(seconds)

    @server.tool(annotations=READS)
    def big(bytes: int) -> Text:
        """Answers with a text of so many characters."""
        return Text("x" * bytes)

    @server.tool(annotations=READS, structured_output=False)
    def weird(kind: Literal["nan", "nul", "surrogate"]) -> str:
        """Answers with JSON text that is hard to store."""
        return WEIRD[kind]

    # No hint whether repeating is safe, on purpose: repeating is what these two are there to show.
    @server.tool()
    def fail(context: Context, times: int = 1, key: str | None = None, message: str = "failed on purpose") -> Attempt:
        """Fails the first `times` calls per key, then succeeds. No key: the idempotency key of the call."""
        key = key or idempotency_key(context)
        count = calls.add(f"fail:{key}")
        if count <= times:
            raise ToolError(f"{message} (call {count}, the first {times} fail)")
        return Attempt(key, count, first_try=count == 1)

    @server.tool()
    def count(context: Context, key: str | None = None, add: int = 1) -> Count:
        """Counts the calls per key; add=0 only reads the count."""
        key = key or idempotency_key(context)
        return Count(key, calls.add(f"count:{key}", add))

    return server


def idempotency_key(context: Context) -> str:
    """The key that the caller put into the call's `_meta`; it stays the same over the attempts of one step."""
    for name, value in (context.request_context.meta or {}).items():
        if name.endswith("/idempotency-key"):
            return str(value)
    raise ToolError("give a key: the call carries no idempotency key of its own")


def serve_http(server: MCPServer, port: int) -> None:
    # Named as TCP because asyncio switches off Nagle's delay (40 ms per answer) only for sockets that say so.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
        print(listening.getsockname()[1], flush=True)
        config = uvicorn.Config(server.streamable_http_app(), log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listening])


def main() -> None:
    parser = argparse.ArgumentParser(description="MCP server with tools that wait, fail, grow and count on command")
    parser.add_argument("--http", type=int, metavar="PORT", help="serve streamable HTTP on loopback instead of stdio")
    parser.add_argument("--state", type=Path, metavar="FILE", help="file that keeps the counts")
    arguments = parser.parse_args()
    if arguments.state is not None:
        arguments.state.parent.mkdir(parents=True, exist_ok=True)
    server = create_server(Calls(arguments.state))
    if arguments.http is None:
        server.run("stdio")
    else:
        serve_http(server, arguments.http)


if __name__ == "__main__":
    main()
