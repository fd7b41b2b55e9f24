"""A small MCP server over HTTP whose tools misbehave on demand: the tool's name says how.

It speaks one of the three eras. `server.seen` holds every message it got with its headers, `server.executed` the tools
that ran; tests read both to prove what the client did and did not do.
"""

from __future__ import annotations

import itertools
import json
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PING = {"jsonrpc": "2.0", "id": "srv-1", "method": "ping"}
ELICIT = {"jsonrpc": "2.0", "id": "srv-2", "method": "elicitation/create", "params": {}}


@dataclass
class Seen:
    """One message the server received."""

    verb: str
    headers: dict[str, str]
    message: dict[str, Any]
    port: int = 0  # the client's: one per connection

    @property
    def method(self) -> str:
        return str(self.message.get("method", ""))


@dataclass
class FaultServer:
    """The server's memory and its switches."""

    era: str
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    tools: list[dict[str, Any]] = field(default_factory=list)
    loss_status: int = 404
    sessionless: bool = False  # an older server may also work without sessions
    handshake: Callable[[Handler], bool] | None = None  # answers initialize or discover itself when it returns True
    released: threading.Event = field(default_factory=threading.Event)  # lets hanging tools go
    changed: threading.Condition = field(default_factory=threading.Condition)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def note(self, entry: Seen) -> None:
        with self.changed:
            self.seen.append(entry)
            self.changed.notify_all()

    def methods(self) -> list[str]:
        return [entry.method or entry.verb for entry in self.seen]

    def wait_for(self, wanted: Callable[[Seen], bool], seconds: float = 5.0) -> Seen:
        """The first message that fits, as soon as it has come."""
        with self.changed:
            assert self.changed.wait_for(lambda: any(wanted(entry) for entry in self.seen), seconds), self.methods()
            return next(entry for entry in self.seen if wanted(entry))


class Handler(BaseHTTPRequestHandler):
    """Speaks the era, then plays the fault."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    memory: FaultServer

    def log_message(self, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.memory.note(Seen("GET", self._lower(), {}))
        if self.path == "/health":
            return self.json({"status": "ok"})
        if self.headers.get("last-event-id"):
            return self._resumed()
        return self.plain(405)

    def do_DELETE(self) -> None:
        self.memory.note(Seen("DELETE", self._lower(), {}))
        self.memory.sessions.discard(self.headers.get("mcp-session-id", ""))
        self.plain(200)

    def do_POST(self) -> None:
        self.message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.memory.note(Seen("POST", self._lower(), self.message, self.client_address[1]))
        method, number = self.message.get("method"), self.message.get("id")
        if number is None or method is None:
            return self.plain(202)
        if method in ("initialize", "server/discover") and self.memory.handshake and self.memory.handshake(self):
            return None
        if method == "server/discover" and self.memory.era == "modern":
            return self.result({"supportedVersions": ["2026-07-28"], "capabilities": {}, "resultType": "complete"})
        if method == "initialize" and self.memory.era == "legacy":
            return self._initialize()
        if self._has_lost_the_session():
            text = "Session not found" if self.memory.loss_status == 404 else "No valid session ID provided"
            code = -32600 if self.memory.loss_status == 404 else -32000
            return self.error(code, text, self.memory.loss_status)
        if method == "tools/list":
            return self.result({"tools": self.memory.tools})
        if method == "tools/call":
            return self._call()
        return self.error(-32601, "Method not found")

    def _has_lost_the_session(self) -> bool:
        if self.memory.era != "legacy" or self.memory.sessionless:
            return False
        return self.headers.get("mcp-session-id") not in self.memory.sessions

    def _initialize(self) -> None:
        answer = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "faults", "version": "1"}}
        if self.memory.sessionless:
            return self.result(answer)
        session = f"s{next(self.memory.numbers)}"
        self.memory.sessions.add(session)
        return self.result(answer, headers={"mcp-session-id": session})

    def _call(self) -> None:
        params = self.message["params"]
        tool = params.get("tool" if self.memory.era == "bare" else "name")
        if not hasattr(self, f"tool_{tool}"):
            return self.error(-32601, f"Tool not found: {tool}")
        self.memory.executed.append(tool)
        return getattr(self, f"tool_{tool}")(params.get("arguments") or {})  # type: ignore[no-any-return]

    # How to answer

    def result(self, value: Any, *, headers: dict[str, str] | None = None) -> None:
        self.json({"jsonrpc": "2.0", "id": self.message["id"], "result": value}, headers=headers)

    def text(self, text: str, **more: Any) -> None:
        self.result({"content": [{"type": "text", "text": text}], **more})

    def error(self, code: int, message: str, status: int = 200, data: Any = None) -> None:
        error = {"code": code, "message": message, **({"data": data} if data is not None else {})}
        self.json({"jsonrpc": "2.0", "id": self.message["id"], "error": error}, status)

    def json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.raw(json.dumps(value).encode(), status, headers)

    def plain(self, status: int, **headers: str) -> None:
        self.raw(b"", status, {name.replace("_", "-"): value for name, value in headers.items()})

    def raw(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, *parts: bytes) -> None:
        """An event stream that ends with its connection."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for part in parts:
            self.wfile.write(part)
        self.close_connection = True

    def reset(self) -> None:
        """End the connection with RST, as a crashing server does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def event(self, value: Any, number: str = "") -> bytes:
        return (f"id: {number}\n" if number else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"

    def answer(self, text: str = "ok") -> dict[str, Any]:
        content = [{"type": "text", "text": text}]
        return {"jsonrpc": "2.0", "id": self.message["id"], "result": {"content": content}}

    def _lower(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    # The tools

    def tool_ok(self, arguments: dict[str, Any]) -> None:
        self.text(json.dumps(arguments))

    def tool_status(self, arguments: dict[str, Any]) -> None:
        headers = {"retry-after": arguments["retry_after"]} if "retry_after" in arguments else {}
        self.raw(arguments.get("body", "").encode(), arguments["status"], headers)

    def tool_rpc_error(self, arguments: dict[str, Any]) -> None:
        self.error(
            arguments["code"], arguments.get("message", "no"), arguments.get("status", 200), arguments.get("data")
        )

    def tool_bytes(self, arguments: dict[str, Any]) -> None:
        """`NUMBER` in the text stands for the request's id."""
        self.raw(arguments["text"].replace("NUMBER", str(self.message["id"])).encode("latin-1"))

    def tool_value(self, arguments: dict[str, Any]) -> None:
        self.result(arguments["result"])

    def tool_large(self, arguments: dict[str, Any]) -> None:
        self.text("x" * arguments["bytes"])

    def tool_endless(self, arguments: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", arguments.get("type", "application/json"))
        self.end_headers()
        self.close_connection = True
        try:
            self.wfile.write(b"data: {")
            while not self.memory.released.is_set():
                self.wfile.write(b"x" * 65536)
        except OSError:
            self.memory.executed.append("endless was cut")

    def tool_wrong_id(self, arguments: dict[str, Any]) -> None:
        self.json({"jsonrpc": "2.0", "id": 999999999, "result": {}})

    def tool_accepted(self, arguments: dict[str, Any]) -> None:
        self.plain(202)

    def tool_hang(self, arguments: dict[str, Any]) -> None:
        self.memory.released.wait(20)
        self.close_connection = True

    def tool_waits(self, arguments: dict[str, Any]) -> None:
        """Answers when it is let go."""
        self.memory.released.wait(20)
        self.text("ok")

    def tool_trickle(self, arguments: dict[str, Any]) -> None:
        self.stream()
        try:
            while not self.memory.released.wait(0.05):
                self.wfile.write(b": still here\n\n")
        except OSError:
            self.memory.executed.append("trickle was cut")

    def tool_hangs_up(self, arguments: dict[str, Any]) -> None:
        """Answers, then closes a connection that it seemed to keep, as servers do after some idle seconds."""
        self.text("ok")
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True
        self.memory.released.set()

    def tool_reset(self, arguments: dict[str, Any]) -> None:
        self.reset()

    def tool_half_body(self, arguments: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b'{"jsonrpc":')
        self.close_connection = True

    def tool_half_stream(self, arguments: dict[str, Any]) -> None:
        self.stream(b"event: message\n", b'data: {"jsonrpc": "2.0", "me')

    def tool_stream(self, arguments: dict[str, Any]) -> None:
        notice = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}
        self.stream(b": hello\n\n", b"data:\n\n", self.event(notice), self.event(self.answer()))

    def tool_asks(self, arguments: dict[str, Any]) -> None:
        """Does not answer before the client has answered two requests of the server."""
        self.stream(self.event(PING), self.event(ELICIT))
        self.wfile.flush()
        ping = self.memory.wait_for(lambda entry: entry.message.get("id") == "srv-1")
        other = self.memory.wait_for(lambda entry: entry.message.get("id") == "srv-2")
        said = {"ping": ping.message.get("result"), "other": other.message["error"]["code"]}
        self.wfile.write(self.event(self.answer(json.dumps(said))))

    def tool_resumable(self, arguments: dict[str, Any]) -> None:
        """Cuts its stream after one event; the answer is given to a GET that names the event."""
        self.memory.executed.append(f"cut {self.message['id']}")
        self.stream(b"retry: 20\nid: ev-" + str(self.message["id"]).encode() + b"\ndata:\n\n")

    def tool_cut_for_good(self, arguments: dict[str, Any]) -> None:
        """As resumable, but nobody listens any more."""
        assert isinstance(self.server, ThreadingHTTPServer)
        self.server.socket.shutdown(socket.SHUT_RDWR)
        self.tool_resumable(arguments)

    def _resumed(self) -> None:
        self.message = {"id": int(self.headers["last-event-id"].removeprefix("ev-"))}
        self.stream(self.event(self.answer("resumed")))


class Server(ThreadingHTTPServer):
    """Clients that hang up are part of the tests."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextmanager
def fault_server(era: str, tls: ssl.SSLContext | None = None) -> Iterator[FaultServer]:
    """A running server of the era, over TLS if a context is given; ended with all its threads."""
    memory = FaultServer(era)
    server = Server(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"memory": memory}))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    memory.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}/mcp"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        memory.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
