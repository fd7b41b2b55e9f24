"""What live updates cost: 200 readers of one API process while 300 steps a second are claimed and completed.

Each reader follows the list of executions and one of 200 executions over a WebSocket. Three processes on loopback: the API
with its hub, the load (workers' own code, hints included, and a stub in the place of the tools), and the readers. Prints
the delay from a step's completion in PostgreSQL to its reader (p50, p95, p99), messages and frames per socket and
second, and the CPU of the API process. Servers are embedded, with fsync on.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import uvicorn
from websockets.asyncio.client import connect

from control_center.api.app import make_app
from control_center.api.serve import ApiServer
from control_center.keys import Trust
from orchestrator.broker import StepBroker
from orchestrator.definition import Workflow
from orchestrator.outcome import Succeeded
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.embedded import open_embedded
from persistence.ids import time_ordered_uuid
from persistence.migrate import migrate
from persistence.pool import open_pool, run
from persistence.settings import Settings
from workers.in_flight import InFlight
from workers.run_step import StepRunner

HERE = Path(__file__).parent
READERS = 200
CHANGES = 300  # a second
SECONDS = 20
STEPS = CHANGES * (SECONDS + 5) // READERS
STARTS = 10  # further executions a second, of one step, for the list


class NoTools:
    """In the place of MCP servers: answers at once."""

    max_output_bytes = 262_144
    longest_call_seconds = 30.0

    def call(self, server: str, tool: str, arguments: Any, **_: Any) -> Succeeded:
        return Succeeded({})

    def may_repeat(self, server: str, tool: str, idempotent: bool | None) -> bool:
        return True

    def prices(self, server: str) -> dict[str, Any]:
        return {}

    def shown(self, params: Any) -> Any:
        return params


def sequence(count: int) -> Workflow:
    return validate(
        {"name": "live", "steps": [{"name": f"step_{n}", "tool": "no.op", "params": {}} for n in range(count)]}
    )


def serve(port: int) -> None:
    """The API process."""
    app = make_app(Settings.load(), Trust(keys=False))
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_level="warning", access_log=False, ws_per_message_deflate=False
    )
    ApiServer(config, app).run()


def load() -> None:
    """Prints the executions' ids, waits for a line, then completes steps at the given rate."""
    settings = Settings.load()
    pool = open_pool(settings.database_dsn, max_size=8)
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    worker_id = time_ordered_uuid()
    lease = {"worker_id": worker_id, "role": "worker", "hostname": "here", "pid": 1, "threads": 1}
    run(pool, "renew_lease", lease)
    runner = StepRunner(pool, broker, NoTools(), worker_id, InFlight())
    submitter = Submitter(pool, broker)
    submitted = submitter.submit(sequence(STEPS), [Request() for _ in range(READERS)])
    print(json.dumps([str(one.execution_id) for one in submitted]), flush=True)
    sys.stdin.readline()
    ready = deque(one.ready[0] for one in submitted)
    lock = threading.Lock()

    def one() -> None:
        with lock:
            step = ready.popleft()
        with runner.in_flight.only(step):
            transition = runner.run_step(step)
        with lock:
            ready.extend(transition.ready if transition else ())

    begin = time.monotonic()
    done = started = 0
    with ThreadPoolExecutor(4) as threads:
        while (elapsed := time.monotonic() - begin) < SECONDS:
            due = int(elapsed * CHANGES)
            while started < int(elapsed * STARTS):
                ready.extend(submitter.submit(sequence(1), [Request()])[0].ready)
                started += 1
            futures = [threads.submit(one) for _ in range(due - done)]
            done = due
            for future in futures:
                future.result()
            threading.Event().wait(0.01)
    print(json.dumps({"done": done, "seconds": time.monotonic() - begin}), flush=True)


class Heard:
    def __init__(self) -> None:
        self.delays: list[float] = []
        self.frames = self.messages = self.resyncs = 0


async def read(url: str, execution_id: str, heard: Heard, subscribed: asyncio.Semaphore) -> None:
    async with connect(url, compression=None) as opened:
        await opened.send(json.dumps({"op": "subscribe", "topics": ["executions", f"execution:{execution_id}"]}))
        async for frame in opened:
            now = time.time()
            found: Any = json.loads(frame)
            messages = found if isinstance(found, list) else [found]
            heard.frames += 1
            for message in messages:
                heard.messages += 1
                heard.resyncs += message["op"] == "resync"
                if message["op"] == "subscribed":
                    subscribed.release()
                elif message.get("type") == "step.changed" and message["data"]["status"] == "completed":
                    ended = datetime.fromisoformat(message["data"]["completedAt"]).timestamp()
                    heard.delays.append((now - ended) * 1000)


async def measure(url: str, ids: list[str], loader: subprocess.Popen[str]) -> tuple[Heard, dict[str, Any]]:
    heard, subscribed = Heard(), asyncio.Semaphore(0)
    readers = [asyncio.create_task(read(url, one, heard, subscribed)) for one in ids]
    for _ in range(2 * len(ids)):
        await subscribed.acquire()
    heard.frames = heard.messages = 0
    assert loader.stdin is not None
    assert loader.stdout is not None
    loader.stdin.write("go\n")
    loader.stdin.flush()
    told = json.loads(await asyncio.to_thread(loader.stdout.readline))
    await asyncio.sleep(1)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    return heard, told


def start(role: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, role, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="afu9-bench-") as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs under another account and must reach its data
        with open_embedded(Path(folder)) as endpoints:
            migrate(endpoints.database_url)
            os.environ |= {"DATABASE_URL": endpoints.database_url, "REDIS_URL": endpoints.redis_url}
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            api, loader = start("serve", str(port)), start("load")
            try:
                assert loader.stdout is not None
                ids = json.loads(loader.stdout.readline())
                wait_for(port)
                heard, told = asyncio.run(measure(f"ws://127.0.0.1:{port}/api/workflow/ws", ids, loader))
            finally:
                loader.kill()
                api.terminate()
                _, _, usage = os.wait4(api.pid, 0)
            report(heard, told, usage)


def wait_for(port: int) -> None:
    """Returns once somebody listens there."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            threading.Event().wait(0.05)
    raise TimeoutError("the API did not start")


def report(heard: Heard, told: dict[str, Any], usage: resource.struct_rusage) -> None:
    delays, seconds = sorted(heard.delays), told["seconds"]
    p50, p95, p99 = (delays[int(len(delays) * share)] for share in (0.5, 0.95, 0.99))
    print(f"{READERS} readers, {told['done'] / seconds:.0f} steps/s for {seconds:.0f} s, {len(delays)} steps told")
    print(f"delay                p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   p99 {p99:6.1f} ms")
    per_socket = READERS * seconds
    print(
        f"per socket and second {heard.messages / per_socket:5.1f} messages in {heard.frames / per_socket:.1f} frames"
    )
    cpu = (usage.ru_utime + usage.ru_stime) / seconds * 100
    print(f"API process          {cpu:.0f} % of a core, {usage.ru_maxrss / 1024:.0f} MB peak, {heard.resyncs} resyncs")
    assert p95 < 250, "the budget of a live update"


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    elif sys.argv[1:2] == ["load"]:
        load()
    else:
        main()
