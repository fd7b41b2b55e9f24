"""What the peers' programs share. Each runs in a virtual environment of its own: the standard library and that peer only.

A program has a role and its options: `run_X.py client|worker|setup '{"workload": "W2", ...}'`. It says `ready`, waits for a
line, and a client then says its answer as one line of JSON. It ends when its input does.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 600  # seconds for anything to end
CLIENTS = 16

ROLE = sys.argv[1]
OPTIONS: dict[str, Any] = json.loads(sys.argv[2])

CALL = json.dumps(
    {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {}}}
).encode()
HEAD = {"content-type": "application/json", "accept": "application/json"}


def hold() -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    threading.Thread(target=_end_with_input, daemon=True).start()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


def answer(figures: dict[str, Any]) -> None:
    print(json.dumps(figures), flush=True)


def wait_until(done: Callable[[], Any], every: float = 0.1) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := done()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done in {PATIENCE} s")
        time.sleep(every)
    return found


def rate(count: int, clients: int, submit: Callable[[], object]) -> float:
    """Calls per second of `clients` threads that submit one after the other, `count` in all."""
    shares = [count // clients] * clients
    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(lambda share: [submit() for _ in range(share)], shares))
    return sum(shares) / (time.perf_counter() - begin)


_idle: deque[http.client.HTTPConnection] = deque()


def call_tool() -> None:
    """One call of the tool server, over connections that are kept. From any thread."""
    place = urlsplit(OPTIONS["tool_url"])
    try:
        connection = _idle.pop()
    except IndexError:
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
    connection.request("POST", place.path, CALL, HEAD)
    if "result" not in json.loads(connection.getresponse().read()):
        raise RuntimeError("the tool server answered no result")
    _idle.append(connection)


_idle_streams: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()


async def call_tool_async() -> None:
    """The same from the one event loop of the process."""
    place = urlsplit(OPTIONS["tool_url"])
    stream = _idle_streams.pop() if _idle_streams else await asyncio.open_connection(place.hostname, place.port)
    reader, writer = stream
    head = f"POST {place.path} HTTP/1.1\r\nhost: {place.netloc}\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(CALL)}\r\n\r\n".encode() + CALL)
    answered = (await reader.readuntil(b"\r\n\r\n")).lower()
    body = await reader.readexactly(int(answered.split(b"content-length:")[1].split(b"\r\n")[0]))
    if "result" not in json.loads(body):
        raise RuntimeError("the tool server answered no result")
    _idle_streams.append(stream)
