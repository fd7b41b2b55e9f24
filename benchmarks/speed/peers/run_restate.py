"""Restate: its server keeps the journal (on its own disk, not in PostgreSQL); workers are HTTP services that it calls.

Where work is submitted up front, the services' processes are stopped meanwhile (SIGSTOP), and the clock runs from the moment
they go on (SIGCONT).
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hypercorn.asyncio
import restate
from held import CLIENTS, OPTIONS, ROLE, answer, call_tool_async, hold, rate, wait_until

STEPS: int = OPTIONS["steps"]
EXECUTIONS: int = OPTIONS["executions"]
COUNT = "SELECT count(*) AS n FROM sys_invocation WHERE status = 'completed' AND target_service_name = 'Bench'"
NO_LIMIT = 2**31 - 1


flow = restate.Workflow("Bench")


async def step() -> float:
    if OPTIONS["workload"] == "W3":
        await call_tool_async()
    return time.time()


@flow.main()
async def run(context: restate.WorkflowContext, steps: int) -> list[float]:
    return [await context.run_typed("step", step) for _ in range(steps)]


def work() -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # shared by all workers
    listener.bind(("127.0.0.1", OPTIONS["service_port"]))
    config = hypercorn.Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.h2_max_concurrent_streams = NO_LIMIT
    config.keep_alive_max_requests = NO_LIMIT
    config.keep_alive_timeout = NO_LIMIT
    hold()
    asyncio.run(hypercorn.asyncio.serve(restate.app([flow]), config, mode="asgi"))


class Caller(threading.local):
    """A connection for each thread."""

    def __init__(self, port: int):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        head = {"content-type": "application/json", "accept": "application/json"}
        self._connection.request(method, path, None if body is None else json.dumps(body).encode(), head)
        answered = self._connection.getresponse()
        text = answered.read()
        if answered.status >= 300:
            raise RuntimeError(f"{method} {path}: {answered.status} {text[:200]!r}")
        return json.loads(text) if text else None


admin = Caller(OPTIONS["admin_port"])
ingress = Caller(OPTIONS["ingress_port"])
numbers = itertools.count()


def register() -> bool:
    """Tells the server where the service is; false until both answer."""
    try:
        ingress("GET", "/restate/health")
        admin("POST", "/deployments", {"uri": f"http://127.0.0.1:{OPTIONS['service_port']}", "force": True})
    except (OSError, http.client.HTTPException, RuntimeError):
        return False
    return True


def run_one() -> tuple[float, list[float]]:
    asked = time.time()
    return asked, ingress("POST", f"/Bench/{next(numbers)}/run", STEPS)


def send() -> int:
    number = next(numbers)
    ingress("POST", f"/Bench/{number}/run/send", STEPS)
    return number


def tell_workers(what: signal.Signals) -> None:
    for pid in OPTIONS["workers"]:
        os.kill(pid, what)


def submitted_up_front() -> None:
    tell_workers(signal.SIGSTOP)
    with ThreadPoolExecutor(8) as threads:
        sent = list(threads.map(lambda _: send(), range(EXECUTIONS)))
    expected = EXECUTIONS + OPTIONS["warm_up"]
    hold()
    begin = time.time()
    tell_workers(signal.SIGCONT)
    wait_until(lambda: admin("POST", "/query", {"query": COUNT})["rows"][0]["n"] >= expected, 0.25)
    with ThreadPoolExecutor(8) as threads:
        runs = list(threads.map(lambda n: ingress("GET", f"/restate/workflow/Bench/{n}/output"), sent))
    end = max(stamps[-1] for stamps in runs)
    answer({"begin": begin, "end": end, "steps": sum(map(len, runs)), "executions": len(runs)})


def client() -> None:
    wait_until(register, 0.2)
    for _ in range(OPTIONS["warm_up"]):
        run_one()
    match OPTIONS["workload"]:
        case "W1":
            hold()
            runs = [run_one() for _ in range(EXECUTIONS)]
            answer({"submitted": [asked for asked, _ in runs], "stamps": [stamps for _, stamps in runs]})
        case "W4":
            tell_workers(signal.SIGSTOP)
            hold()
            single, sixteen = rate(EXECUTIONS, 1, send), rate(OPTIONS["many"], CLIENTS, send)
            answer({"single_per_s": single, "sixteen_per_s": sixteen})
        case _:
            submitted_up_front()


if __name__ == "__main__":
    work() if ROLE == "worker" else client()
