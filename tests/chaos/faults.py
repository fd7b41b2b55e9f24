"""What a role under chaos has patched in before it starts: its fate at every seam, and a bad postal service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import psycopg
from dramatiq import Message

from orchestrator.broker import StepBroker
from persistence.statements import QUERIES
from tests.chaos.diary import Diary
from tests.chaos.fate import Doom, Fate, chance, later
from workers.tools import Tools

NAMES = {path.read_bytes(): path.stem for path in QUERIES.glob("*.sql")}


@dataclass(frozen=True, slots=True)
class Post:
    """Shares of the messages that are dropped, doubled or late."""

    dropped: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    delay: tuple[float, float] = (0.3, 3.0)


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

    def spoilt(self: StepBroker, messages: Sequence[Message[Any]], *, force: bool = False, **hint: str) -> int:
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

    def watched(self: StepBroker, messages: Sequence[Message[Any]], *, force: bool = False, **hint: str) -> int:
        with doom.passing("push"):
            return enqueue(self, messages, force=force, **hint)

    StepBroker.enqueue_many = watched if post == Post() else spoilt  # type: ignore[method-assign]
