"""What a tool call over HTTP costs when many threads wait at once, as a worker's slots do.

    python benchmarks/mcp_slots.py [SECONDS] [OTHER_CHECKOUT ...]

Each figure is one process with 8, 100 or 200 threads that call a minimal server, which answers at once or after 100 ms.
Calls go through Tools.call, as a step's do: with secrets, an idempotency key, a trace and an event that could cancel
them. CPU is the calling process's own, per call. Other checkouts of this project are measured in turn with this one, so
that a change can be judged by ratios of one run.

Seen on 2 busy cores, where httpx's pool carried the calls before and workers/mcp_client/connections.py does now, CPU in
ms per call: 100 threads and 100 ms 2.7 -> 0.29, 200 threads 3.3 -> 0.27; 8 threads that are answered at once 0.89 -> 0.19.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
THREADS = (8, 100, 200)
DELAYS = (0.0, 0.1)  # seconds until the server answers
ARGUMENTS = {"a": 1, "b": "two", "c": {"list": [1, 2, 3], "text": "x" * 100}}


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """A server of 2026-07-28 with one tool that gives back its arguments."""
    match message["method"]:
        case "server/discover":
            return {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
        case "tools/list":
            return {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}
        case _:
            value = message["params"]["arguments"]
            return {"content": [{"type": "text", "text": json.dumps(value)}], "structuredContent": value}


class Connection(asyncio.Protocol):
    """Just enough HTTP/1.1: a request of known length, one at a time, and its answer after the delay."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.held += data
        head, found, body = self.held.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            return
        self.held = b""
        message = json.loads(body)
        result = {"resultType": "complete", **answer(message)}
        said = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
        reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said)
        if self.delay and message["method"] == "tools/call":
            asyncio.get_running_loop().call_later(self.delay, self.transport.write, reply)
        else:
            self.transport.write(reply)


async def serve(delay: float) -> None:
    server = await asyncio.get_running_loop().create_server(partial(Connection, delay), "127.0.0.1", 0, backlog=512)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp", flush=True)
    await server.serve_forever()


def call(url: str, threads: int, seconds: float) -> tuple[float, float]:
    """Calls per second and CPU milliseconds per call of this process."""
    from orchestrator.outcome import Succeeded
    from workers.mcp_client import McpClient, ServerConfig
    from workers.secrets import Secrets
    from workers.tools import Tools

    counts = [0] * threads
    ready = threading.Barrier(threads + 1)
    with McpClient({"s": ServerConfig("s", url=url)}) as client:
        tools = Tools(client, Secrets({"TOKEN": "hidden-value"}), lambda *_: None, 1 << 20)

        def one(number: int) -> None:
            meta = {"traceparent": f"00-0123456789abcdef0123456789abcdef-{number:016x}-01"}
            done = tools.call("s", "echo", ARGUMENTS, idempotency_key="e:s", meta=meta, cancelled=threading.Event())
            assert done == Succeeded(ARGUMENTS), done

        def run(number: int) -> None:
            one(number)
            ready.wait()
            while time.perf_counter() < end:
                one(number)
                counts[number] += 1

        slots = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
        end = float("inf")
        for slot in slots:
            slot.start()
        while ready.n_waiting < threads:
            time.sleep(0.01)
        cpu, begin = time.process_time(), time.perf_counter()
        end = begin + seconds
        ready.wait()
        for slot in slots:
            slot.join()
        return sum(counts) / (time.perf_counter() - begin), (time.process_time() - cpu) / sum(counts) * 1000


def measured(checkout: Path, *arguments: object) -> tuple[float, float]:
    """The figures of `call` in a process of its own that imports from the checkout."""
    command = [sys.executable, __file__, "call", *map(str, arguments)]
    environ = {**os.environ, "PYTHONPATH": str(checkout)}
    rate, cpu = json.loads(subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True).stdout)
    return rate, cpu


def main(seconds: float, checkouts: list[Path]) -> None:
    for delay in DELAYS:
        with subprocess.Popen([sys.executable, __file__, "serve", str(delay)], stdout=subprocess.PIPE) as server:
            try:
                url = server.stdout.readline().decode().strip() if server.stdout else ""
                for threads in THREADS:
                    for checkout in checkouts:
                        rate, cpu = measured(checkout, url, threads, seconds)
                        print(
                            f"{checkout.name:12} {threads:4} threads, {delay * 1000:3.0f} ms: {rate:6.0f} calls/s"
                            f"   {cpu:6.3f} ms CPU per call",
                            flush=True,
                        )
            finally:
                server.kill()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", delay]:
            asyncio.run(serve(float(delay)))
        case ["call", url, threads, seconds]:
            print(json.dumps(call(url, int(threads), float(seconds))))
        case [seconds, *others]:
            main(float(seconds), [*map(Path, others), HERE])
        case _:
            main(5.0, [HERE])
