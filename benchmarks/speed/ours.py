"""AFU-9's side: workers are `afu9 worker` processes, executions come from orchestrator.submit.Submitter in this process.

Where work is submitted up front, the workers' imports are done before they are let go; where tools are called over
the network, our workers have run others before. The clock runs from the first claim to the last execution's
completion, as the rows tell it (dbos: likewise from its rows; dramatiq: from stamps in the steps; restate: from the
moment its service is let go to the last step's stamp). Every step must have been recorded once, completed, at the
first attempt; else the run fails.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

import psycopg

from benchmarks.speed.children import Child, ready
from benchmarks.speed.measure import Figures, Meter, latency_figures, span_figures
from benchmarks.speed.servers import Servers
from orchestrator.broker import StepBroker
from orchestrator.definition import Workflow
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.migrate import migrate
from persistence.pool import open_pool
from persistence.settings import Settings

OUR_THREADS = 32  # of a worker process, where nothing else is said
NOOP = "builtin.echo"  # a tool that answers at once
SLOW = "slow.echo"
FAST = "fast.echo"
BATCH = 500
HELD_WORKER = Path(__file__).with_name("held_worker.py")
POLL = 0.005  # seconds between two looks for an execution's end
PATIENCE = 600  # seconds for any run to end

COUNT_RUNNING = "SELECT count(*) FROM workflow_executions WHERE status = 'running'"
STATUS = "SELECT status FROM workflow_executions WHERE id = %s"
TIMES = """
SELECT claimed_at, completed_at FROM workflow_steps WHERE execution_id = %s ORDER BY step_index
"""
OUTCOME = """
SELECT (SELECT count(*) FROM workflow_executions e WHERE e.id = ANY(%(ids)s) AND e.status = 'completed'),
       count(*) FILTER (WHERE s.status = 'completed' AND s.attempt = 1 AND s.retry_count = 0), min(s.claimed_at),
       (SELECT max(e.completed_at) FROM workflow_executions e WHERE e.id = ANY(%(ids)s))
  FROM workflow_steps s WHERE s.execution_id = ANY(%(ids)s)
"""


def sequence(tool: str, steps: int) -> Workflow:
    rows = [{"name": f"step_{index}", "tool": tool, "params": {}} for index in range(steps)]
    return validate({"name": f"{tool.replace('.', '_')}_{steps}", "steps": rows})


@dataclass(frozen=True, slots=True)
class Bench:
    """One database, one Valkey database, and what it takes to submit to them and look at them."""

    submitter: Submitter
    connection: psycopg.Connection[tuple[object, ...]]
    servers: Servers
    environment: dict[str, str]

    def submit(self, workflow: Workflow, executions: int) -> list[UUID]:
        """In batches; their ids."""
        ids: list[UUID] = []
        while len(ids) < executions:
            requests = [Request() for _ in range(min(BATCH, executions - len(ids)))]
            ids += [one.execution_id for one in self.submitter.submit(workflow, requests)]
        return ids

    def workers(self, processes: int, threads: int | None) -> AbstractContextManager[list[Child]]:
        """Ready to be let go. threads None: the default."""
        command = [sys.executable, str(HELD_WORKER), *(["--threads", str(threads)] if threads else [])]
        logs = self.servers.logs
        return ready([Child(f"afu9-{number}", command, logs, self.environment) for number in range(processes)])

    def wait(self, workers: Sequence[Child], poll: float = 0.2) -> None:
        """Until nothing runs."""
        self._await(lambda: self.connection.execute(COUNT_RUNNING).fetchone() == (0,), workers, poll)

    def run_one(self, workflow: Workflow, workers: Sequence[Child]) -> tuple[float, list[tuple[datetime, datetime]]]:
        """When it was asked for, and each step's claim and completion."""
        asked = time.time()
        execution = self.submitter.submit(workflow, [Request()])[0].execution_id
        self._await(lambda: self.connection.execute(STATUS, (execution,)).fetchone() != ("running",), workers, POLL)
        self.check([execution], len(workflow.steps))
        return asked, self.connection.execute(TIMES, (execution,)).fetchall()

    def check(self, ids: Sequence[UUID], steps: int) -> tuple[float, float]:
        """The first claim and the last completion. Fails unless every step ran once and every execution completed."""
        completed, recorded, begin, end = self.connection.execute(OUTCOME, {"ids": list(ids)}).fetchone()
        expected = (len(ids), len(ids) * steps)
        assert (completed, recorded) == expected, f"{completed} executions, {recorded} steps; expected {expected}"
        return begin.timestamp(), end.timestamp()

    def _await(self, done: Callable[[], bool], workers: Sequence[Child], poll: float) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, f"not done in {PATIENCE} s"
            for worker in workers:
                worker.alive()
            time.sleep(poll)


@contextmanager
def bench(servers: Servers, dsn: str | None = None) -> Iterator[Bench]:
    """With an empty database, or the one of `dsn`, after a checkpoint."""
    if dsn is None:
        dsn = servers.fresh_database("speed_afu9")
        migrate(dsn)
    else:
        servers.checkpoint()
    redis_url = servers.fresh_valkey(0)
    config = servers.folder / "mcp.json"
    tools = {"slow": {"url": servers.slow_tool}, "fast": {"url": servers.fast_tool}}
    config.write_text(json.dumps({"mcpServers": tools}))
    environment = {
        "DATABASE_URL": dsn,
        "REDIS_URL": redis_url,
        "AFU9_MCP_CONFIG": str(config),
        "AFU9_LOG_LEVEL": "WARNING",
    }
    broker = StepBroker(redis_url)
    broker.mark()  # as a Valkey that has been there all the time
    with open_pool(dsn, max_size=16) as pool, psycopg.connect(dsn, autocommit=True) as connection:
        yield Bench(Submitter(pool, broker), connection, servers, environment)
    broker.close()


def latency(servers: Servers, executions: int, steps: int, *, warm_up: int = 5) -> Figures:
    """One execution at a time, one worker process."""
    with bench(servers) as here, here.workers(1, OUR_THREADS) as workers:
        workers[0].go()
        short, workflow = sequence(NOOP, 10), sequence(NOOP, steps)
        for _ in range(warm_up):
            here.run_one(short, workers)
        with Meter(groups(servers, workers)) as meter:
            runs = [here.run_one(workflow, workers) for _ in range(executions)]
    stamps = [[completed.timestamp() for _, completed in rows] for _, rows in runs]
    firsts = [rows[0][0].timestamp() - asked for asked, rows in runs]
    return latency_figures(stamps, firsts) | meter.figures


def throughput(servers: Servers, executions: int, steps: int, processes: int, *, dsn: str | None = None) -> Figures:
    """Everything submitted up front, then the workers are let go."""
    with bench(servers, dsn) as here:
        ids = here.submit(sequence(NOOP, steps), executions)
        with here.workers(processes, OUR_THREADS) as workers, Meter(groups(servers, workers)) as meter:
            for worker in workers:
                worker.go()
            here.wait(workers)
        begin, end = here.check(ids, steps)
    return span_figures(begin, end, executions * steps) | meter.figures


def real_calls(
    servers: Servers,
    executions: int,
    steps: int,
    processes: int,
    *,
    tool: str = FAST,
    threads: int | None = OUR_THREADS,
) -> Figures:
    """Workers that are warm already; a real MCP server in a process of its own."""
    slots = processes * (threads or Settings.model_fields["threads"].default)
    with bench(servers) as here, here.workers(processes, threads) as workers:
        for worker in workers:
            worker.go()
        workflow = sequence(tool, steps)
        here.submit(workflow, slots)
        here.wait(workers)
        with Meter(groups(servers, workers)) as meter:
            ids = here.submit(workflow, executions)
            here.wait(workers, 0.05)
        begin, end = here.check(ids, steps)
    total = executions * steps
    rate = {"steps_per_cpu_s": total / meter.figures["cpu_s.workers"], "slots": slots}
    return rate | span_figures(begin, end, total) | meter.figures


def groups(servers: Servers, workers: Sequence[Child]) -> dict[str, list[int]]:
    return servers.groups | {"workers": [worker.pid for worker in workers], "client": [os.getpid()]}
