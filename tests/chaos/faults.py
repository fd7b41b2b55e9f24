"""Death inside a process, and a bad postal service: what a role under chaos has patched in before it starts.

A process may get a fate: it kills itself at the n-th passing of one point, before, during or after it. The points are
the engine's own seams: each statement of persistence/queries by its name, `push` (a batch of messages) and `call` (a
tool). Everything is drawn from the run's seed and the process's number.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import psycopg
from dramatiq import Message

from orchestrator.broker import StepBroker
from persistence.statements import QUERIES
from tests.chaos.diary import Diary
from workers.tools import Tools

NAMES = {path.read_bytes(): path.stem for path in QUERIES.glob("*.sql")}
MOMENTS = ("before", "during", "after")

# By role: a point, and at which of its passings death comes at the latest.
POINTS = {
    "worker": {
        "claim_step": 30,
        "complete_step": 30,
        "skip_step": 2,
        "charge_step": 3,
        "get_definition": 3,
        "renew_lease": 6,
        "claim_again": 1,
        "claim_refresh": 1,
        "take_steps": 3,
        "push": 20,
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
    return Fate(point, random.choice(MOMENTS), random.randint(1, latest), within, age=random.uniform(6, 14))


@dataclass(frozen=True, slots=True)
class Post:
    """Shares of the messages that are dropped, doubled or late."""

    dropped: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    delay: tuple[float, float] = (0.3, 3.0)


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


def arm(fate: Fate | None, post: Post, seed: str, diary: Diary) -> None:
    """Patches this process; there is no way back."""
    random = chance(seed)
    doom = Doom(fate, random, diary)
    _watch_statements(doom)
    _watch_calls(doom)
    _spoil_post(doom, post, random)


def _watch_statements(doom: Doom) -> None:
    execute = psycopg.Cursor.execute

    def watched(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        name = NAMES.get(query) if isinstance(query, bytes) else None
        if name is None:
            return execute(self, query, *arguments, **options)
        with doom.passing(name):
            return execute(self, query, *arguments, **options)

    psycopg.Cursor.execute = watched  # type: ignore[method-assign]


def _watch_calls(doom: Doom) -> None:
    call = Tools.call

    def watched(self: Tools, *arguments: Any, **options: Any) -> Any:
        with doom.passing("call"):
            return call(self, *arguments, **options)

    Tools.call = watched  # type: ignore[method-assign]


def _spoil_post(doom: Doom, post: Post, random: Random) -> None:
    enqueue = StepBroker.enqueue_many

    def spoilt(self: StepBroker, messages: Sequence[Message[Any]], *, force: bool = False) -> int:
        with doom.passing("push"):
            for message in messages:
                lot = random.random()
                if lot < post.dropped:
                    continue
                if lot < post.dropped + post.late:
                    later(random.uniform(*post.delay), enqueue, self, [message])
                    continue
                enqueue(self, [message], force=force)
                if lot < post.dropped + post.late + post.doubled:
                    enqueue(self, [message.copy(message_id=f"{message.message_id}:again")])
            return len(messages)

    def watched(self: StepBroker, messages: Sequence[Message[Any]], *, force: bool = False) -> int:
        with doom.passing("push"):
            return enqueue(self, messages, force=force)

    StepBroker.enqueue_many = watched if post == Post() else spoilt  # type: ignore[method-assign]


def later(seconds: float, action: Any, *arguments: Any) -> None:
    """Runs the action from a thread of its own; its errors are nobody's business (the process may be stopping)."""

    def quietly() -> None:
        with suppress(Exception):  # a late message that cannot be pushed is a lost message
            action(*arguments)

    timer = threading.Timer(seconds, quietly)
    timer.daemon = True
    timer.start()
