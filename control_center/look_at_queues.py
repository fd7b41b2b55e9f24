"""The state of the queue and of the fleet, as whoever is on call wants it: at once, from indexes, also when Redis is away.

Every count stops at a limit. However many watch, one process asks once a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from psycopg.rows import DictRow

from orchestrator.broker import StepBroker
from orchestrator.look_at_redis import RedisLook, look_at_redis
from orchestrator.push import STEP_QUEUE
from persistence.errors import TooSlow
from persistence.migrate import migrations
from persistence.pool import Pool, run

MOST = 10_000  # steps that are counted
MOST_A_MINUTE = 100_000
MOST_WORKERS = 200
MOST_STUCK = 100
SILENT_SECONDS = 30.0  # as queries/fleet_totals.sql
OLD_SECONDS = 30.0  # a step that waits longer is worth a look
FRESH = 1.0  # seconds that a look is good for
FRESH_STUCK = 15.0  # as orchestrator/measure.py: it reads all executions that run

Value = TypeVar("Value")


class _Remembered(Generic[Value]):
    """The newest look at each database. One caller looks anew; the others are given the last one meanwhile."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._lock = threading.Lock()
        self._seen: WeakKeyDictionary[Pool, tuple[float, Value]] = WeakKeyDictionary()

    def get(self, pool: Pool, look: Callable[[], Value]) -> Value:
        seen = self._seen.get(pool)
        if seen and time.monotonic() - seen[0] < self._seconds:
            return seen[1]
        if not self._lock.acquire(blocking=seen is None):
            return seen[1]  # type: ignore[index]  # it did not wait, so there is one
        try:
            seen = self._seen.get(pool)
            if seen is None or time.monotonic() - seen[0] >= self._seconds:
                seen = self._seen[pool] = time.monotonic(), look()
            return seen[1]
        finally:
            self._lock.release()


@dataclass(frozen=True, slots=True)
class Look:
    """`more`: ready and delayed are at least so many. `stuck` is None where too many executions run for it to be counted.
    `oldest_seconds`: since when the oldest ready step waits; `next_seconds`: until the next delayed one is due."""

    ready: int
    delayed: int
    more: bool
    oldest_seconds: float | None
    next_seconds: float | None
    overdue_seconds: float
    running: int
    slots: int
    alive: int
    silent: int
    listed: int
    in_per_minute: int
    out_per_minute: int
    workers: Sequence[DictRow]
    stuck: Sequence[DictRow] | None
    redis: RedisLook
    postgres_ms: float
    schema_in_database: int
    schema_in_code: int
    name: str = STEP_QUEUE

    @property
    def drain_minutes(self) -> float | None:
        """How long it takes at this minute's pace until nothing waits, at least: what waits may have successors. None: it
        grows, or stands still."""
        if not self.ready:
            return 0.0
        pace = self.out_per_minute - self.in_per_minute
        return self.ready / pace if pace > 0 else None


_looks: _Remembered[Look] = _Remembered(FRESH)
_stuck: _Remembered[Sequence[DictRow] | None] = _Remembered(FRESH_STUCK)


def look_at_queues(pool: Pool, broker: StepBroker) -> Look:
    """Raises Afu9Error."""
    stuck = _stuck.get(pool, lambda: _look_for_stuck(pool))
    return _looks.get(pool, lambda: _look(pool, broker, stuck))


def _look(pool: Pool, broker: StepBroker, stuck: Sequence[DictRow] | None) -> Look:
    run(pool, "check_database")
    started = time.perf_counter()
    run(pool, "check_database")
    took = (time.perf_counter() - started) * 1000
    (depth,) = run(pool, "queue_depth", {"limit": MOST // 2})
    (rates,) = run(pool, "queue_rates", {"limit": MOST_A_MINUTE})
    (fleet,) = run(pool, "fleet_totals", {"limit": MOST})
    return Look(
        **depth,
        overdue_seconds=run(pool, "outbox_age")[0]["seconds"],
        running=fleet["running"],
        slots=fleet["slots"],
        alive=fleet["alive"],
        silent=fleet["silent"],
        listed=fleet["listed"],
        in_per_minute=rates["steps_in"],
        out_per_minute=rates["steps_out"],
        workers=run(pool, "list_fleet", {"limit": MOST_WORKERS}),
        stuck=stuck,
        redis=look_at_redis(broker),
        postgres_ms=took,
        schema_in_database=fleet["schema_version"],
        schema_in_code=migrations()[-1].version,
    )


def _look_for_stuck(pool: Pool) -> Sequence[DictRow] | None:
    try:
        return run(pool, "stuck_executions", {"limit": MOST_STUCK})
    except TooSlow:
        return None
