"""An MCP server that counts: every call by tool and by idempotency key, and those whose caller was gone before the end.

    python -m tests.chaos.counting_server        prints its URL; GET /counts answers what it saw, as JSON

It is never killed, so its memory is the truth about side effects. Results are functions of the arguments alone, which
makes two runs of one workflow comparable. `seconds` in the arguments of any tool makes it slow; its effect happens at
the beginning, as that of a payment would.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

READ_ONLY = {"readOnlyHint": True}
IDEMPOTENT = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": True}
DESTRUCTIVE = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False}
TOOLS = {
    "echo": READ_ONLY,
    "look": READ_ONLY,
    "put": IDEMPOTENT,
    "flaky": IDEMPOTENT,  # fails the first `times` calls of each key
    "broken": READ_ONLY,  # fails always
    "pay": DESTRUCTIVE,
}


class Counts:
    """What the server saw, by tool."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.cut: dict[str, list[str]] = {tool: [] for tool in TOOLS}  # keys
        self.keys: dict[str, Counter[str]] = {tool: Counter() for tool in TOOLS}

    def begin(self, tool: str, key: str) -> int:
        """Counts a call; the number of calls with this key."""
        with self._lock:
            self.calls[tool] += 1
            self.keys[tool][key] += 1
            return self.keys[tool][key]

    def interrupted(self, tool: str, key: str) -> None:
        with self._lock:
            self.cut[tool].append(key)

    def told(self) -> bytes:
        with self._lock:
            return json.dumps({"calls": dict(self.calls), "cut": self.cut, "keys": self.keys}).encode()


def use(tool: str, arguments: Mapping[str, Any], calls: int) -> dict[str, Any]:
    """A tool's result as tools/call has it. `calls`: how often this key has been seen, this call included."""
    time.sleep(float(arguments.get("seconds", 0)))
    if tool == "broken" or (tool == "flaky" and calls <= int(arguments.get("times", 1))):
        return {"content": [{"type": "text", "text": "failed on purpose"}], "isError": True}
    return {"content": [], "structuredContent": {"tool": tool, "arguments": arguments}, "isError": False}


class Handler(BaseHTTPRequestHandler):
    """Streamable HTTP without sessions, in the protocol of 2025-06-18."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet
    disable_nagle_algorithm = True
    counts: Counts

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "id" not in request:
            self._send(202, b"")
            return
        answer = self._answer(request["method"], request.get("params") or {})
        self._send(200, {"jsonrpc": "2.0", "id": request["id"], **answer})

    def do_GET(self) -> None:
        if self.path == "/counts":
            self._send(200, self.counts.told())
        else:
            self._send(405, b"")

    def _answer(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        match method:
            case "initialize":
                server = {"name": "counting", "version": "1"}
                return {
                    "result": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": server}
                }
            case "tools/list":
                listed = [{"name": n, "inputSchema": {"type": "object"}, "annotations": a} for n, a in TOOLS.items()]
                return {"result": {"tools": listed}}
            case "tools/call" if params.get("name") in TOOLS:
                return {"result": self._call(params["name"], params)}
            case _:
                return {"error": {"code": -32601, "message": "Method not found"}}

    def _call(self, tool: str, params: Mapping[str, Any]) -> dict[str, Any]:
        key = str((params.get("_meta") or {}).get("afu9.dev/idempotency-key"))
        result = use(tool, params.get("arguments") or {}, self.counts.begin(tool, key))
        if self._caller_is_gone():
            self.counts.interrupted(tool, key)
        return result

    def _caller_is_gone(self) -> bool:
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _send(self, status: int, body: object) -> None:
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)
            self.wfile.flush()
        except OSError:  # whoever asked is dead
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the output is for the URL."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that is killed in the middle of its request is why this server exists."""


def main() -> None:
    Handler.counts = Counts()
    with Server(("127.0.0.1", 0), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/mcp", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
