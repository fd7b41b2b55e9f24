"""What a tool call costs: this project's client against the official SDK, eight threads each, in one run.

    python benchmarks/mcp_client.py [SECONDS]

The server is a minimal one in a process of its own, so that the client is what is measured. The SDK is async only; from
threads it is driven the usual way, through one loop thread. CPU is the client process's own, per call.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mcp import Client

from orchestrator.outcome import Succeeded
from workers.mcp_client import McpClient, ServerConfig

THREADS = 8
ARGUMENTS = {"a": 1, "b": "two"}
SERVER = Path(__file__).with_name("tool_server.py")


def measure(call: Callable[[], None], seconds: float) -> tuple[float, float]:
    """Calls per second and CPU milliseconds per call, of THREADS threads that call as fast as they can."""
    call()
    counts = [0] * THREADS
    cpu, begin = time.process_time(), time.perf_counter()
    end = begin + seconds

    def run(number: int) -> None:
        while time.perf_counter() < end:
            call()
            counts[number] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = sum(counts)
    return total / (time.perf_counter() - begin), (time.process_time() - cpu) / total * 1000


def ours(url: str, seconds: float) -> tuple[float, float]:
    with McpClient({"s": ServerConfig("s", url=url)}) as client:

        def call() -> None:
            outcome = client.call("s", "echo", ARGUMENTS, idempotency_key="run:1")
            if not isinstance(outcome, Succeeded):
                raise SystemExit(f"the call failed: {outcome}")

        return measure(call, seconds)


def official(url: str, seconds: float) -> tuple[float, float]:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    ready, done = threading.Event(), asyncio.Event()
    clients: list[Client] = []

    async def hold() -> None:
        async with Client(url) as client:
            clients.append(client)
            ready.set()
            await done.wait()

    holder = asyncio.run_coroutine_threadsafe(hold(), loop)
    if not ready.wait(10):
        raise SystemExit(f"the SDK did not connect: {holder}")

    def call() -> None:
        result = asyncio.run_coroutine_threadsafe(clients[0].call_tool("echo", ARGUMENTS), loop).result()
        if result.is_error:
            raise SystemExit(f"the call failed: {result}")

    found = measure(call, seconds)
    loop.call_soon_threadsafe(done.set)
    holder.result(10)
    loop.call_soon_threadsafe(loop.stop)
    return found


def main(seconds: float) -> None:
    with subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().strip() if server.stdout else ""
            print(f"{THREADS} threads, {seconds:g} s each, one local server")
            for name, run in (("this client", ours), ("official SDK, loop thread", official)):
                rate, cpu = run(url, seconds)
                print(f"{name:28} {rate:7.0f} calls/s   {cpu:6.2f} ms CPU per call")
        finally:
            server.kill()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
