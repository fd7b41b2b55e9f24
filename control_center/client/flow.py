"""How an operation of several requests is written once and runs with threads as with asyncio.

An operation is a generator: it yields what is to be done (a Call, a Pause, a value for the caller's loop) and is sent the
Answer. Client and AsyncClient do it; neither knows what an operation means.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from control_center.client.call import Answer, Call, Pause, read

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Emit(Generic[T]):
    """The next value of an iteration."""

    value: T


Flow: TypeAlias = Generator[Call | Pause, Answer, T]
Stream: TypeAlias = Generator[Call | Pause | Emit[T], Answer, None]


def ask(call: Call, kind: type[T]) -> Flow[T]:
    """One request, its answer as a value."""
    answer = yield call
    return read(kind, answer)
