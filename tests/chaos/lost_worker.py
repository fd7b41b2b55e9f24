"""One of two workers is killed with hundreds of steps in its hands: how soon do all of them run again?"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass

from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.pool import run
from tests.chaos import oracle
from tests.chaos.diary import worker_pids
from tests.chaos.faults import Post
from tests.chaos.ground import Arena, Ground
from tests.chaos.recovery import recoveries
from tests.chaos.report import Report
from tests.chaos.supervise import Supervisor
from tests.fleet import wait_until

HELD = """
SELECT worker_id::text, count(*)::integer AS steps FROM workflow_steps WHERE status = 'running'
 GROUP BY worker_id ORDER BY count(*) DESC
"""


@dataclass(frozen=True, slots=True)
class Loss:
    """Its size. `call_seconds`: how long a step takes, so that none ends before all run again."""

    steps: int
    threads: int
    lease_seconds: float
    call_seconds: float


def run_lost_worker(ground: Ground, loss: Loss) -> Report:
    with ground.arena("lost_worker", threads=loss.threads, lease_seconds=loss.lease_seconds) as arena:
        fleet = Supervisor(arena, {"worker": 2, "orchestrator": 1}, "calm", post=Post())
        try:
            fleet.start()
            wait_until(lambda: run(arena.pool, "server_facts")[0]["workers_alive"] == 2, 30, "the start of two workers")
            begin = time.monotonic()
            _submit(arena, loss)
            wait_until(lambda: _in_flight(arena) == loss.steps, loss.call_seconds, f"{loss.steps} steps in flight")
            took = time.monotonic() - begin
            held = _kill_the_busier(arena, fleet)
            wait_until(lambda: _claims(arena) == loss.steps + held, 6 * loss.lease_seconds, "the second claim of each")
            wait_until(lambda: _unfinished(arena) == 0, 3 * loss.call_seconds, "the end of all executions")
        finally:
            fleet.end()
        found = recoveries(arena, fleet.ends)
        report = Report(f"a lost worker, PostgreSQL {ground.postgres}")
        report.figures["steps in flight, and seconds to get there"] = f"{loss.steps}, {took:.1f}"
        report.at_least("of them in the killed worker's hands", held, loss.steps // 2)
        report.figures["lease period, seconds"] = loss.lease_seconds
        report.figures["running again, median seconds"] = found.median
        report.figures["running again, worst seconds"] = found.worst
        late = [seconds for seconds in found.seconds if seconds > 2 * loss.lease_seconds]
        report.wrong["later than two lease periods"] = late
        report.wrong["not recovered"] = [held - len(found.seconds)] if held != len(found.seconds) else []
        report.wrong |= oracle.violations(arena)
        return report


def _submit(arena: Arena, loss: Loss) -> None:
    step = {"name": "long", "tool": "chaos.look", "params": {"seconds": loss.call_seconds}, "timeoutMs": 60_000}
    requests = [Request() for _ in range(loss.steps)]
    Submitter(arena.pool, arena.broker).submit(validate({"name": "long", "steps": [step]}), requests)


def _kill_the_busier(arena: Arena, fleet: Supervisor) -> int:
    """kill -9 of the worker that holds most; how many steps it held."""
    pids = worker_pids(arena.folder)
    busiest = arena.rows(HELD)[0]
    assert fleet.send(pids[busiest["worker_id"]], signal.SIGKILL)
    return int(busiest["steps"])


def _in_flight(arena: Arena) -> int:
    return sum(row["steps"] for row in arena.rows(HELD))


def _claims(arena: Arena) -> int:
    return int(arena.rows("SELECT count(*) AS n FROM chaos_transitions WHERE new_status = 'running'")[0]["n"])


def _unfinished(arena: Arena) -> int:
    return int(arena.rows("SELECT count(*) AS n FROM workflow_executions WHERE status = 'running'")[0]["n"])
