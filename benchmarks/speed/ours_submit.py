"""AFU-9's side of submitting: through the Submitter, as a service does that shares the database, and over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.speed.children import READY_SECONDS, Child, free_port
from benchmarks.speed.measure import Figures, Meter
from benchmarks.speed.ours import BATCH, NOOP, Bench, bench, sequence
from benchmarks.speed.servers import Servers
from orchestrator.submit import Request

CLIENTS = 16
BATCH_CLIENTS = 4  # that submit batches at once
SUBMIT = "/api/workflow/executions"
ROWS = "SELECT (SELECT count(*) FROM workflow_executions), (SELECT count(*) FROM workflow_steps)"


def rate(count: int, clients: int, submit: Callable[[], object], each: int = 1) -> float:
    """Executions per second of `clients` threads that submit one after the other, `count` calls in all."""
    shares = [count // clients] * clients
    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(lambda share: [submit() for _ in range(share)], shares))
    return sum(shares) * each / (time.perf_counter() - begin)


def submission(servers: Servers, single: int, many: int, batches: int, steps: int) -> Figures:
    """Nobody works meanwhile."""
    workflow = sequence(NOOP, steps)
    with bench(servers) as here:
        here.submit(workflow, 50)
        with Meter(servers.groups | {"client": [os.getpid()]}) as meter:
            figures = {
                "single_per_s": rate(single, 1, lambda: here.submitter.submit(workflow, [Request()])),
                "sixteen_per_s": rate(many, CLIENTS, lambda: here.submitter.submit(workflow, [Request()])),
                "batched_per_s": rate(batches, BATCH_CLIENTS, lambda: here.submit(workflow, BATCH), BATCH),
            }
        check_rows(
            here, 50 + single + many // CLIENTS * CLIENTS + batches // BATCH_CLIENTS * BATCH_CLIENTS * BATCH, steps
        )
    return figures | meter.figures


def submission_over_http(servers: Servers, single: int, many: int, batches: int, steps: int) -> Figures:
    """The same through `afu9 api`, with clients on the same machine that keep their connections."""
    workflow = sequence(NOOP, steps)
    one = json.dumps({"workflow": workflow.name, "input": {}}).encode()
    batch = json.dumps({"workflow": workflow.name, "requests": [{"input": {}}] * BATCH}).encode()
    port = free_port()
    command = [sys.executable, "-m", "control_center", "api", "--port", str(port)]
    with bench(servers) as here, Child("afu9-api", command, servers.logs, here.environment) as api:
        here.submitter.register(workflow)
        await_port(port, api)
        clients = Clients(port)
        for _ in range(50):
            clients.post(SUBMIT, one)
        with Meter(servers.groups | {"api": [api.pid], "client": [os.getpid()]}) as meter:
            figures = {
                "single_per_s": rate(single, 1, lambda: clients.post(SUBMIT, one)),
                "sixteen_per_s": rate(many, CLIENTS, lambda: clients.post(SUBMIT, one)),
                "batched_per_s": rate(batches, BATCH_CLIENTS, lambda: clients.post(f"{SUBMIT}/batch", batch), BATCH),
            }
        check_rows(
            here, 50 + single + many // CLIENTS * CLIENTS + batches // BATCH_CLIENTS * BATCH_CLIENTS * BATCH, steps
        )
    return figures | meter.figures


class Clients(threading.local):
    """A connection for each thread."""

    def __init__(self, port: int):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, path: str, body: bytes) -> None:
        self._connection.request("POST", path, body, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status == 202, f"{answer.status}: {text[:300]!r}"


def check_rows(here: Bench, executions: int, steps: int) -> None:
    found = here.connection.execute(ROWS).fetchone()
    assert found == (executions, executions * steps), f"{found} executions and steps; expected {executions} of {steps}"


def await_port(port: int, child: Child) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            child.alive()
            assert time.monotonic() < deadline, f"{child.name} does not answer"
            time.sleep(0.1)
