"""The outside world: kills and stops processes, empties and kills Valkey, cuts connections, restarts PostgreSQL.

It follows a timetable drawn from the seed. Only what really happened is counted.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import redis

from tests.chaos.diary import worker_pids
from tests.chaos.fate import chance, later
from tests.chaos.ground import Arena, Ground
from tests.chaos.supervise import Supervisor
from tests.fleet import wait_until

log = logging.getLogger(__name__)

CONNECTIONS = """
SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid
"""
SLOW = "SELECT DISTINCT worker_id::text FROM workflow_steps WHERE status = 'running' AND tool = 'chaos.look'"
BACK = 30.0  # seconds for a killed server to answer again


@dataclass(frozen=True, slots=True)
class Timetable:
    """How often each thing happens within `seconds`, evenly spread with some chance."""

    seconds: float
    flushes: int
    valkey_restarts: int
    valkey_stalls: int
    postgres_restarts: int
    cuts: int
    zombies: int
    kills: int


class Monkey:
    """`start()`, and `finished` is set when the timetable is through; `stop()` ends it early."""

    def __init__(self, ground: Ground, arena: Arena, supervisor: Supervisor, timetable: Timetable, seed: str):
        self._ground = ground
        self._arena = arena
        self._supervisor = supervisor
        self._random = chance(seed)
        self._stopping = threading.Event()
        self._plan = sorted(self._drawn(timetable), key=lambda entry: entry[0])
        self._thread = threading.Thread(target=self._run, name="monkey", daemon=True)
        self._asleep: set[int] = set()
        self.done: Counter[str] = Counter()
        self.finished = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _drawn(self, table: Timetable) -> list[tuple[float, Callable[[], str | None]]]:
        wanted: list[tuple[int, Callable[[], str | None]]] = [
            (table.flushes, self.flush),
            (table.valkey_restarts, self.restart_valkey),
            (table.valkey_stalls, self.stall_valkey),
            (table.postgres_restarts, self.restart_postgres),
            (table.cuts, self.cut_connections),
            (table.zombies, self.make_zombie),
            (table.kills, self.kill),
        ]
        return [
            ((number + self._random.uniform(0.2, 0.8)) * table.seconds / count, action)
            for count, action in wanted
            for number in range(count)
        ]

    def _run(self) -> None:
        begin = time.monotonic()
        for moment, action in self._plan:
            if self._stopping.wait(max(begin + moment - time.monotonic(), 0)):
                return
            try:
                if did := action():
                    self.done[did] += 1
            except (redis.RedisError, psycopg.Error, AssertionError) as error:
                log.warning("monkey: %s", error)
        self.finished.set()

    def flush(self) -> str:
        self._arena.valkey().flushall()
        return "FLUSHALL"

    def restart_valkey(self) -> str | None:
        """kill -9; its keeper starts it again."""
        return self._restart("valkey", signal.SIGKILL, self._arena.valkey().ping)

    def stall_valkey(self) -> str | None:
        """It hears everything and answers nothing, for longer than a client waits."""
        pid = self._ground.pid("valkey")
        if pid is None:
            return None
        os.kill(pid, signal.SIGSTOP)
        try:
            self._stopping.wait(self._random.uniform(4.5, 6.0))
        finally:
            os.kill(pid, signal.SIGCONT)
        return "valkey stalls"

    def restart_postgres(self) -> str | None:
        """A fast shutdown, an immediate one, or kill -9 of the postmaster."""
        number = self._random.choice([signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
        return self._restart("postgresql", number, lambda: self._arena.rows("SELECT 1"))

    def _restart(self, title: str, number: signal.Signals, answers: Callable[[], object]) -> str | None:
        before = self._ground.pid(title)
        if before is None:
            return None
        os.kill(before, number)
        wait_until(lambda: self._ground.pid(title) not in (None, before), BACK, f"a new {title}")
        wait_until(lambda: _quietly(answers), BACK, f"an answer of {title}")
        return f"{title} restarts"

    def cut_connections(self) -> str:
        """pg_terminate_backend for half of them, ours included."""
        for row in self._arena.rows(CONNECTIONS):
            if self._random.random() < 0.5:
                self._arena.rows("SELECT pg_terminate_backend(%s)", (row["pid"],))
        return "connections cut by half"

    def make_zombie(self) -> str | None:
        """SIGSTOP for longer than the lease, then SIGCONT; best one that holds a slow step, whose next attempt it meets.

        Some sleep so long that their own watchdog ends them when they wake."""
        pids = worker_pids(self._arena.folder)
        holders = {pids.get(row["worker_id"]) for row in self._arena.rows(SLOW)}
        living = [pid for pid in self._supervisor.pids("worker") if pid not in self._asleep]
        slow = [pid for pid in living if pid in holders]
        pid = self._random.choice(slow or living) if living else None
        if pid is None or not self._supervisor.send(pid, signal.SIGSTOP):
            return None
        asleep = self._arena.settings.lease_seconds + self._random.uniform(0.9, 2.2)
        self._asleep.add(pid)
        later(asleep, self._wake, pid)
        return "zombies"

    def _wake(self, pid: int) -> None:
        self._supervisor.send(pid, signal.SIGCONT)
        self._asleep.discard(pid)

    def kill(self) -> str | None:
        role = self._random.choice(["worker", "worker", "worker", "orchestrator"])
        pid = self._supervisor.pick(role, self._random)
        return "killed from outside" if pid and self._supervisor.send(pid, signal.SIGKILL) else None


def _quietly(answers: Callable[[], object]) -> bool:
    try:
        answers()
    except (redis.RedisError, psycopg.Error):
        return False
    return True
