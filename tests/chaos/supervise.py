"""Keeps a number of roles running: what dies is noted with its time and started again, as a service manager would.

Processes are forks of one server that has imported everything, so that a start costs some ten milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random

from tests.chaos.fate import Fate
from tests.chaos.faults import Post
from tests.chaos.ground import Arena
from tests.chaos.roles import Part, play

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.chaos.roles"])

POLL = 0.1
AGAIN = 0.3  # seconds before a process that ended by itself is started anew
GRACE = 15.0  # seconds for a graceful end

FateOf = Callable[[str, str], Fate | None]


@dataclass(frozen=True, slots=True)
class End:
    """A process that ended, or was stopped for a while."""

    at: float
    pid: int
    role: str
    code: int | None  # None: it was only stopped
    log: Path

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Supervisor:
    """`start()`, then `calm()` and `end()`. Everything about processes happens under one lock."""

    def __init__(self, arena: Arena, wanted: Mapping[str, int], seed: str, *, fate: FateOf | None = None, post: Post):
        self._arena = arena
        self._wanted = [role for role, count in wanted.items() for _ in range(count)]
        self._seed = seed
        self._fate = fate
        self._post = post
        self._lock = threading.RLock()
        self._living: dict[int, tuple[str, ForkServerProcess]] = {}
        self._due: list[tuple[float, str]] = []
        self._number = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self.ends: list[End] = []

    def start(self) -> None:
        for role in self._wanted:
            self._begin(role)
        self._thread.start()

    def calm(self) -> None:
        """Processes started from now on have no fate, and their messages arrive."""
        with self._lock:
            self._fate, self._post = None, Post()

    def deaths(self) -> int:
        """Processes that ended by SIGKILL."""
        return sum(end.killed for end in list(self.ends))

    def pids(self, role: str) -> list[int]:
        with self._lock:
            return [pid for pid, (playing, _) in self._living.items() if playing == role]

    def pick(self, role: str, random: Random) -> int | None:
        pids = self.pids(role)
        return random.choice(pids) if pids else None

    def send(self, pid: int, number: signal.Signals) -> bool:
        """Signals a process of ours if it still lives. A stop is noted, for whoever waits for its steps."""
        with self._lock:
            if pid not in self._living or self._living[pid][1].exitcode is not None:
                return False
            if number == signal.SIGSTOP:
                self.ends.append(self._ended(time.time(), pid, None))
            os.kill(pid, number)
            return True

    def end(self) -> Counter[int | None]:
        """Asks all to stop, then makes them; how many ended with which code."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
        processes = [process for _, process in self._living.values()]
        for process in processes:
            self._signal(process, signal.SIGCONT)
            self._signal(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for process in processes:
            process.join(max(deadline - time.monotonic(), 0))
            if process.exitcode is None:
                self._signal(process, signal.SIGKILL)
                process.join()
        return Counter(process.exitcode for process in processes)

    def _ended(self, at: float, pid: int, code: int | None) -> End:
        role, process = self._living[pid]
        return End(at, pid, role, code, self._arena.folder / f"{process.name}.log")

    def _signal(self, process: ForkServerProcess, number: signal.Signals) -> None:
        if process.exitcode is None and process.pid is not None:
            os.kill(process.pid, number)

    def _begin(self, role: str) -> None:
        with self._lock:
            self._number += 1
            seed = f"{self._seed}/{role}/{self._number}"
            fate = self._fate(role, seed) if self._fate else None
            part = Part(role, self._number, self._arena.environment, self._arena.folder, seed, fate, self._post)
            process = FORKS.Process(target=play, args=(part,), name=part.name)
            process.start()
            assert process.pid is not None
            self._living[process.pid] = (role, process)

    def _watch(self) -> None:
        while not self._ending.is_set():
            with self._lock:
                sentinels = [process.sentinel for _, process in self._living.values()]
            connection.wait(sentinels, POLL)
            now = time.time()
            with self._lock:
                self._note_ends(now)
                ready = [role for due, role in self._due if due <= now]
                self._due = [(due, role) for due, role in self._due if due > now]
            for role in ready:
                self._begin(role)

    def _note_ends(self, now: float) -> None:
        for pid, (role, process) in list(self._living.items()):
            if process.exitcode is None:
                continue
            end = self._ended(now, pid, process.exitcode)
            self.ends.append(end)
            self._due.append((now if end.killed else now + AGAIN, role))
            del self._living[pid]
