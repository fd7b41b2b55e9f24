"""When a process dies by its own hand: at the n-th passing of one point, before, during or after it.

The points are the engine's own seams: each statement of persistence/queries by its name, `push` (a batch of messages) and
`call` (a tool). Everything is drawn from the run's seed and the process's number.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.chaos.diary import Diary

MOMENTS = ("before", "during", "after")

# By role: a point, and at which of its passings death comes at the latest.
POINTS = {
    "worker": {
        "claim_steps": 15,
        "complete_steps": 30,
        "charge_step": 3,
        "get_definition": 3,
        "renew_lease": 6,
        "claim_again": 1,
        "claim_refresh": 1,
        "take_steps": 3,
        "push": 10,
        "call": 30,
    },
    "orchestrator": {
        "dispatch_steps": 20,
        "next_dispatch": 20,
        "reap_steps": 10,
        "expire_executions": 10,
        "bury_workers": 10,
        "redispatch_steps": 1,
        "push": 3,
    },
}


@dataclass(frozen=True, slots=True)
class Fate:
    """When a process kills itself. `within`: how many seconds after the beginning `during` may be. `age`: seconds after
    which it dies anyway, at a point that nobody chose; for points that are seldom passed."""

    point: str
    moment: str
    passing: int
    within: tuple[float, float] = (0.0, 0.004)
    age: float | None = None


def chance(seed: str) -> Random:
    """Everything random in a run comes from here."""
    return Random(seed)  # noqa: S311  # to be repeatable is the point


def draw_fate(role: str, seed: str) -> Fate:
    """The fate of one process: each of its role's points is as likely as the others."""
    random = chance(seed)
    point, latest = random.choice(list(POINTS[role].items()))
    within = (0.0, 0.03) if point == "call" else (0.0, 0.004)
    return Fate(point, random.choice(MOMENTS), random.randint(1, latest), within, age=random.uniform(4, 10))


class Doom:
    """Counts the passings of the fate's point, and dies."""

    def __init__(self, fate: Fate | None, random: Random, diary: Diary):
        self._fate = fate
        self._random = random
        self._diary = diary
        self._lock = threading.Lock()
        self._passings = 0
        if fate is not None and fate.age is not None:
            later(fate.age, self._die, "age", "after")

    @contextmanager
    def passing(self, point: str) -> Iterator[None]:
        fate = self._fate
        due = fate is not None and fate.point == point and self._is_due(fate.passing)
        if fate is None or not due:
            yield
            return
        if fate.moment == "before":
            self._die(point, "before")
        if fate.moment == "during":
            later(self._random.uniform(*fate.within), self._die, point, "during")
        yield
        if fate.moment == "after":
            self._die(point, "after")

    def _is_due(self, passing: int) -> bool:
        with self._lock:
            self._passings += 1
            return self._passings == passing

    def _die(self, point: str, moment: str) -> None:
        self._diary.write("fate", point=point, moment=moment)
        os.kill(os.getpid(), signal.SIGKILL)


def later(seconds: float, action: Callable[..., object], *arguments: Any) -> None:
    """Runs the action from a thread of its own; its errors are nobody's business (the process may be stopping)."""

    def quietly() -> None:
        with suppress(Exception):  # a late message that cannot be pushed is a lost message
            action(*arguments)

    timer = threading.Timer(seconds, quietly)
    timer.daemon = True
    timer.start()
