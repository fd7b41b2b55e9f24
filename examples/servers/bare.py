"""A server of the plainest kind: JSON-RPC in one HTTP POST, without MCP's handshake and without any library.

    python examples/servers/bare.py PORT        0 takes a free port; the port is the first line of the output

It answers `tools/call` with params {"tool": NAME, "arguments": {...}}, always with HTTP 200, and puts the result of a
tool as JSON text into content[0].text. Every other method but `health` is unknown, `initialize` included. Half of its
tools misbehave on purpose: they are what a client has to survive.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

METHOD_NOT_FOUND = -32601
TOOL_FAILED = -32000
PARSE_ERROR = -32700

# The two bytes never occur in UTF-8; they are put in after encoding.
PLACE_OF_INVALID_BYTES = "@@invalid@@"

Arguments = Mapping[str, Any]

_calls: Counter[str] = Counter()
_calls_lock = threading.Lock()


class RpcError(Exception):
    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


def echo(arguments: Arguments) -> str:
    """Gives the arguments back."""
    return json.dumps(arguments)


def fail(arguments: Arguments) -> str:
    """Fails the first `times` calls per `key`, then succeeds."""
    key, times = str(arguments.get("key", "")), int(arguments.get("times", 1))
    with _calls_lock:
        _calls[key] += 1
        calls = _calls[key]
    if calls <= times:
        raise RpcError(TOOL_FAILED, f"{arguments.get('message', 'failed on purpose')} (call {calls} of {times})")
    return json.dumps({"key": key, "calls": calls})


def sleep(arguments: Arguments) -> str:
    """Answers after `seconds`."""
    time.sleep(float(arguments.get("seconds", 1)))
    return json.dumps({"slept": arguments.get("seconds", 1)})


def big(arguments: Arguments) -> str:
    """Answers with a text of `bytes` characters."""
    return json.dumps({"text": "x" * int(arguments.get("bytes", 1_000_000))})


def nan(_: Arguments) -> str:
    """Numbers that JSON does not have."""
    return '{"value": NaN, "least": -Infinity}'


def nul(_: Arguments) -> str:
    """A character that PostgreSQL's text and jsonb cannot hold."""
    return json.dumps({"value": "before\0after"})


def surrogate(_: Arguments) -> str:
    """Half of a surrogate pair: valid as a JSON escape, impossible to encode."""
    return '{"value": "\\ud800"}'


def invalid_utf8(_: Arguments) -> str:
    """Bytes that are not UTF-8, in the middle of the answer."""
    return json.dumps({"value": PLACE_OF_INVALID_BYTES})


TOOLS: dict[str, Callable[[Arguments], str]] = {
    "echo": echo,
    "fail": fail,
    "sleep": sleep,
    "big": big,
    "nan": nan,
    "nul": nul,
    "surrogate": surrogate,
    "invalidUtf8": invalid_utf8,
}


def call(method: str, params: Arguments) -> Any:
    """The result of one JSON-RPC method; raises RpcError."""
    if method == "health":
        return {"status": "ok"}
    if method != "tools/call":
        raise RpcError(METHOD_NOT_FOUND, "Method not found")
    tool = TOOLS.get(str(params.get("tool")))
    if tool is None:
        raise RpcError(METHOD_NOT_FOUND, f"Tool not found: {params.get('tool')}")
    try:
        text = tool(params.get("arguments") or {})
    except (TypeError, ValueError) as error:
        raise RpcError(TOOL_FAILED, str(error)) from error
    return {"content": [{"type": "text", "text": text}]}


def answer(body: bytes) -> dict[str, Any]:
    """The JSON-RPC response to one request body."""
    try:
        request = json.loads(body)
        identity, method, params = request.get("id"), request["method"], request.get("params") or {}
    except (ValueError, KeyError, AttributeError):
        return {"jsonrpc": "2.0", "id": None, "error": {"code": PARSE_ERROR, "message": "Parse error"}}
    try:
        return {"jsonrpc": "2.0", "id": identity, "result": call(method, params)}
    except RpcError as error:
        return {"jsonrpc": "2.0", "id": identity, "error": {"code": error.code, "message": str(error)}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        encoded = json.dumps(answer(body)).encode()
        self._send(200, encoded.replace(PLACE_OF_INVALID_BYTES.encode(), b"\xff\xfe"))

    def do_GET(self) -> None:
        if self.path in ("/health", "/ready"):
            self._send(200, b'{"status": "ok"}')
        else:
            self._send(404, b'{"error": "not found"}')

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the output is for the port."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # with five, its own, those that find no place at once come again a second later


def main() -> None:
    parser = argparse.ArgumentParser(description="JSON-RPC over HTTP, on loopback only")
    parser.add_argument("port", type=int, nargs="?", default=0, help="0 (the default) takes a free port")
    with Server(("127.0.0.1", parser.parse_args().port), Handler) as server:
        print(server.server_port, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
