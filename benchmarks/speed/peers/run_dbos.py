"""DBOS Transact: workflows in the worker processes, taken from its queue, or started in the client's own process (direct)."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import psycopg
import sqlalchemy
from dbos import DBOS, DBOSClient
from held import CLIENTS, OPTIONS, ROLE, answer, call_tool, hold, rate, wait_until

QUEUE = "bench"
BATCH = 500
DSN: str = OPTIONS["dsn"]
KIND = {"W3": "slow", "W6": "mcp"}.get(OPTIONS["workload"], "noop")
STEPS: int = OPTIONS["steps"]
EXECUTIONS: int = OPTIONS["executions"]
OPEN = "SELECT count(*) FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING', 'DELAYED')"
SPAN = """
SELECT min(o.started_at_epoch_ms) / 1000.0, max(w.completed_at) / 1000.0, count(*), count(DISTINCT w.workflow_uuid)
  FROM dbos.workflow_status w JOIN dbos.operation_outputs o USING (workflow_uuid)
 WHERE w.status = 'SUCCESS' AND w.created_at >= %s
"""


def configure(executor: str) -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": DSN,
            "application_version": "1",
            "executor_id": executor,
            "log_level": "WARNING",
        }
    )


@DBOS.step()
def noop_step() -> float:
    return time.time()


@DBOS.workflow(name="noop")
def noop(steps: int) -> list[float]:
    return [noop_step() for _ in range(steps)]


@DBOS.step()
def slow_step() -> float:
    call_tool()
    return time.time()


@DBOS.workflow(name="slow")
def slow(steps: int) -> list[float]:
    return [slow_step() for _ in range(steps)]


class OfficialClient:
    """The official SDK is async only: from steps it is driven through one loop thread and one connection."""

    def __init__(self, url: str):
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._client = asyncio.run_coroutine_threadsafe(self._open(url), self._loop).result(30)

    async def _open(self, url: str) -> Any:
        from mcp import Client

        return await Client(url).__aenter__()

    def call(self) -> None:
        result = asyncio.run_coroutine_threadsafe(self._client.call_tool("echo", {}), self._loop).result(60)
        if result.is_error:
            raise RuntimeError(f"the call failed: {result}")


official: OfficialClient | None = None


@DBOS.step()
def mcp_step() -> float:
    assert official is not None
    official.call()
    return time.time()


@DBOS.workflow(name="mcp")
def mcp(steps: int) -> list[float]:
    return [mcp_step() for _ in range(steps)]


def setup() -> None:
    """The tables, and the queue: polled every `poll` seconds, at most `concurrency` at once in a worker (None: no limit)."""
    configure("setup")
    DBOS.launch()
    DBOS.register_queue(
        QUEUE,
        worker_concurrency=OPTIONS["concurrency"],
        polling_interval_sec=OPTIONS["poll"],
        on_conflict="always_update",
    )
    DBOS.destroy(destroy_registry=True)


def work() -> None:
    global official
    configure(f"worker-{OPTIONS['number']}")
    if KIND == "mcp":
        official = OfficialClient(OPTIONS["tool_url"])
    hold()
    DBOS.launch()
    threading.Event().wait()


class Queue:
    def __init__(self) -> None:
        self.client = DBOSClient(system_database_url=DSN)
        self.engine = sqlalchemy.create_engine(DSN.replace("postgresql://", "postgresql+psycopg://"))
        self.connection = psycopg.connect(DSN, autocommit=True)
        self.options = {"workflow_name": KIND, "queue_name": QUEUE}

    def one(self) -> Any:
        return self.client.enqueue(self.options, STEPS)

    def many(self, count: int) -> None:
        """The documented form for a batch: several in one transaction of the caller's."""
        with self.engine.connect() as connection:
            for begin in range(0, count, BATCH):
                with connection.begin():
                    for _ in range(min(BATCH, count - begin)):
                        self.client.enqueue_in_transaction(connection, self.options, STEPS)

    def wait(self, every: float) -> None:
        wait_until(lambda: self.connection.execute(OPEN).fetchone() == (0,), every)

    def span(self, since: float) -> dict[str, Any]:
        begin, end, steps, executions = self.connection.execute(SPAN, [int(since * 1000)]).fetchone()
        return {"begin": float(begin), "end": float(end), "steps": steps, "executions": executions}


def one_at_a_time(queue: Queue | None) -> dict[str, Any]:
    stamps, submitted = [], []
    for _ in range(EXECUTIONS):
        submitted.append(time.time())
        if queue is None:
            stamps.append(DBOS.start_workflow(noop, STEPS).get_result())
        else:
            stamps.append(queue.one().get_result(polling_interval_sec=0.005))
    return {"stamps": stamps, "submitted": submitted}


def direct() -> None:
    configure("direct")
    DBOS.launch()
    for _ in range(5):
        DBOS.start_workflow(noop, STEPS).get_result()
    hold()
    answer(one_at_a_time(None))


def client() -> None:
    queue = Queue()
    match OPTIONS["workload"]:
        case "W1":
            for _ in range(OPTIONS["warm_up"]):
                queue.one().get_result(polling_interval_sec=0.005)
            hold()
            answer(one_at_a_time(queue))
        case "W4":
            queue.many(50)
            hold()
            figures = {
                "single_per_s": rate(EXECUTIONS, 1, queue.one),
                "sixteen_per_s": rate(OPTIONS["many"], CLIENTS, queue.one),
                "batched_per_s": rate(OPTIONS["batches"], 1, lambda: queue.many(BATCH)) * BATCH,
            }
            answer(figures)
        case "W6":
            queue.many(OPTIONS["warm_up"])
            queue.wait(0.05)
            hold()
            since = time.time()
            queue.many(EXECUTIONS)
            queue.wait(0.05)
            answer(queue.span(since))
        case _:
            since = time.time()
            queue.many(EXECUTIONS)
            hold()
            queue.wait(0.2)
            answer(queue.span(since))


if __name__ == "__main__":
    match ROLE:
        case "setup":
            setup()
        case "worker":
            work()
        case "client" if OPTIONS["direct"]:
            direct()
        case "client":
            client()
