"""The loops that make every promise independent of messages: dispatch what is due, reap what is lost, work off jobs, count.

Any number of processes may run them at once: rows are taken with SKIP LOCKED, and what two of them do twice is refused.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
from psycopg.rows import DictRow

from orchestrator.broker import StepBroker
from orchestrator.count_ends import count_charge, count_execution
from orchestrator.metrics import RECOVERED
from orchestrator.plan import UNNAMED
from orchestrator.push import QUEUES, push_steps
from orchestrator.roll_up import roll_up
from orchestrator.work_off_jobs import work_off
from persistence.errors import Afu9Error, Unreachable
from persistence.pool import Pool, run
from persistence.settings import Settings
from persistence.transitions import ReadyStep, charged, ready_steps

log = logging.getLogger(__name__)

BATCH = 1000
NEVER = 1e9  # seconds of silence
CAUSES = {  # what reap_steps says, as a label
    "its worker is gone": "worker_gone",
    "its worker fell silent": "worker_silent",
    "it ran past its deadline": "past_deadline",
}
FORCED_FROM = 2  # pushes by the dispatcher: the second one doubts that the message still exists


def dispatch(pool: Pool, broker: StepBroker, longest: float = 1.0) -> float:
    """Pushes every step that is due; seconds until the next one is, at most `longest`. Where Redis was away or has lost its
    messages, every waiting step is due."""
    try:
        if not broker.kept_its_messages():
            ring_for_all(pool)
            broker.mark()
    except redis.RedisError:  # rows taken now would only be put off
        return longest
    while True:
        due = run(pool, "dispatch_steps", {"limit": BATCH})
        fresh = [ReadyStep(row["step_id"], row["attempt"]) for row in due if row["dispatch_count"] < FORCED_FROM]
        doubted = [ReadyStep(row["step_id"], row["attempt"]) for row in due if row["dispatch_count"] >= FORCED_FROM]
        push_steps(broker, fresh)
        if lost := push_steps(broker, doubted, force=True):
            RECOVERED.add(lost, "message_lost")
        if len(due) < BATCH:
            break
    seconds = run(pool, "next_dispatch")[0]["seconds"]
    return longest if seconds is None else min(max(float(seconds), 0.005), longest)


def ring_for_all(pool: Pool) -> None:
    """Makes every waiting step due: whatever was pushed may be lost."""
    count, more = 0, BATCH
    while more == BATCH:
        more = run(pool, "redispatch_steps", {"limit": BATCH})[0]["count"]
        count += more
    if count:
        log.warning("redis: it may have lost messages: %d waiting steps are pushed again", count)


def reap(pool: Pool, broker: StepBroker, lease_seconds: float, max_lost: int) -> int:
    """Charges the steps of silent workers, ends late executions, and gives unread messages back; how many steps."""
    parameters = {"silence": lease_seconds, "max_lost": max_lost, "limit": BATCH}
    rows = run(pool, "reap_steps", parameters)
    for row in rows:
        log.warning(
            "step %(step_id)s: attempt %(attempt)d charged: %(reason)s; now %(step_status)s", row, extra=_about(row)
        )
        RECOVERED.add(1, CAUSES.get(row["reason"], "other"))
        count_charge(pool, charged(row), "engine_error")
    ready = [step for row in rows for step in ready_steps(row)]
    push_steps(broker, ready, changed=[row["execution_id"] for row in rows])
    expired = run(pool, "expire_executions", {"limit": BATCH})
    for row in expired:
        about = {"execution_id": row["execution_id"]}
        log.warning("execution %(execution_id)s ran longer than its timeoutMs", about, extra=about)
        count_execution(pool, row["execution_id"], row["workflow"] or UNNAMED, "failed", "timeout")
    push_steps(broker, (), changed=[row["execution_id"] for row in expired])
    run(pool, "bury_workers", {"silence": lease_seconds})
    _tidy(pool, broker)
    return len(rows)


def _about(row: DictRow) -> dict[str, Any]:
    """The ids of a log line."""
    return {name: row[name] for name in ("execution_id", "step_id", "attempt")} | {"step": row["step_name"]}


def _tidy(pool: Pool, broker: StepBroker) -> None:
    """Whoever has fetched messages and holds no lease is dead: a worker's broker id is its worker id, and it writes its
    lease before it fetches. So Redis is asked first, and the leases after it."""
    try:
        known = broker.consumers_known()
        alive = {str(row["id"]) for row in run(pool, "list_workers")}
        for worker_id in known - alive:
            if returned := sum(broker.give_back(worker_id, queue) for queue in QUEUES):
                log.warning("worker %s is dead: its %d unread messages are back in the queue", worker_id, returned)
        for queue in QUEUES:
            broker.forget_dead_letters(queue)
    except redis.RedisError as error:
        log.debug("redis: the messages of dead workers stay until it answers: %s", error)


class Recovery:
    """The loops as threads. `start()`, then `stop()`."""

    def __init__(self, pool: Pool, broker: StepBroker, settings: Settings):
        self._stopping = threading.Event()
        self._listening_since: float | None = None
        self._threads = [
            self._loop("dispatcher", lambda: dispatch(pool, broker, settings.dispatch_seconds)),
            self._loop("reaper", lambda: self._reap(pool, broker, settings)),
            self._loop("jobs", lambda: work_off(pool, broker, settings.lease_seconds)),
            self._loop("rollups", lambda: roll_up(pool)),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def hears(self) -> bool:
        """Whether all loops run, and PostgreSQL answered the reaper's last round."""
        return self._listening_since is not None and all(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def _reap(self, pool: Pool, broker: StepBroker, settings: Settings) -> float:
        """While PostgreSQL was away, or we were, nobody could renew a lease: silence counts only after it could be heard
        for a whole lease. Workers that are gone and deadlines count at once."""
        now = time.monotonic()
        try:
            heard = self._listening_since is not None and now - self._listening_since > settings.lease_seconds
            reap(pool, broker, settings.lease_seconds if heard else NEVER, settings.max_lost)
        except Unreachable:
            self._listening_since = None
            raise
        self._listening_since = self._listening_since or now
        return settings.reap_seconds

    def _loop(self, name: str, action: Callable[[], float]) -> threading.Thread:
        def body() -> None:
            pause = 0.0
            while not self._stopping.wait(pause):
                try:
                    pause = action()
                except Afu9Error as error:
                    log.error("%s: %s", name, error)
                    pause = 1.0
                except Exception:  # a loop that ends would be a silent stop of the engine
                    log.exception("%s: unexpected fault, going on", name)
                    pause = 1.0

        return threading.Thread(target=body, name=name, daemon=True)
