"""A small MCP server over stdio whose tools misbehave on demand. Run as a program: `python mcp_stdio_server.py
[stubborn | tidy FILE]`.

It needs nothing but the standard library, so that it starts in a moment. Both words make it ignore the end
of its stdin; `stubborn` ignores SIGTERM too, `tidy` writes the file when it gets it, and leaves.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

lock = threading.Lock()
cancelled: list[Any] = []


def write(data: bytes) -> None:
    with lock:
        sys.stdout.buffer.write(data + b"\n")
        sys.stdout.buffer.flush()


def answer(number: Any, value: Any) -> None:
    write(json.dumps({"jsonrpc": "2.0", "id": number, "result": value}).encode())


def call(number: Any, tool: str, arguments: dict[str, Any]) -> None:
    value: Any = arguments
    if tool == "exit":
        print("out of paper", file=sys.stderr, flush=True)
        os._exit(arguments.get("code", 3))
    elif tool == "hang":
        time.sleep(arguments.get("seconds", 30))
    elif tool == "noise":
        write(b"Listening on stdin!")
        write(b"")
    elif tool == "raw":
        return write(arguments["text"].replace("NUMBER", str(number)).encode("latin-1"))
    elif tool == "large":
        value = "x" * arguments["bytes"]
    elif tool == "environment":
        value = {"env": dict(os.environ), "cwd": os.getcwd(), "args": sys.argv[1:]}
    elif tool == "family":
        child = subprocess.Popen(["sleep", "600"])
        value = {"pid": os.getpid(), "child": child.pid}
    elif tool == "cancelled":
        value = list(cancelled)
    elif tool == "ask":
        write(b'{"jsonrpc":"2.0","id":"mine","method":"ping"}')
        time.sleep(0.05)
        value = {"answers": list(answers)}
    return answer(number, {"structuredContent": value, "content": []})


answers: list[Any] = []


def tidy_up(*_: Any) -> None:
    with open(sys.argv[2], "w") as file:
        file.write("tidy")
    os._exit(0)


def main() -> None:
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "tidy" in sys.argv:
        signal.signal(signal.SIGTERM, tidy_up)
    for line in sys.stdin.buffer:
        message = json.loads(line)
        method, number = message.get("method"), message.get("id")
        if method == "initialize":
            answer(
                number,
                {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "t", "version": "1"}},
            )
        elif method == "tools/list":
            answer(number, {"tools": [{"name": name, "inputSchema": {}} for name in ("ok", "environment")]})
        elif method == "tools/call":
            given = (number, message["params"]["name"], message["params"]["arguments"])
            threading.Thread(target=call, args=given, daemon=True).start()
        elif method == "notifications/cancelled":
            cancelled.append(message["params"]["requestId"])
        elif method is None:
            answers.append(message)
        elif number is not None:
            error = {"code": -32601, "message": "Method not found"}
            write(json.dumps({"jsonrpc": "2.0", "id": number, "error": error}).encode())
    while len(sys.argv) > 1:
        time.sleep(1)


if __name__ == "__main__":
    main()
