"""Many threads' requests in one statement and one commit, without a wait of its own.

The first thread that comes carries out its request at once. Whoever comes while it waits for PostgreSQL is gathered, and
one of those carries them all out next: so the batch grows with the load, and a lone request waits for nobody. Each thread
goes on when the commit that holds its own request has been answered.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Item = TypeVar("Item")

MOST = 64  # requests in one call
STUCK = 0.05  # seconds after which a thread no longer waits for the batch before its own


def choose(waiting: Sequence[Item], key: Callable[[Item], Hashable]) -> tuple[list[Item], list[Item]]:
    """Those that go together, the first among them, and those that are left: at most one of each key."""
    batch: list[Item] = []
    left: list[Item] = []
    keys: set[Hashable] = set()
    for item in waiting:
        if len(batch) < MOST and (found := key(item)) not in keys:
            keys.add(found)
            batch.append(item)
        else:
            left.append(item)
    return batch, left


class _Entry(Generic[Request, Answer]):
    """A request and what became of it. `latch` is released when it is taken care of, or when its thread is to lead."""

    __slots__ = ("answer", "error", "latch", "leads", "request", "taken")
    answer: Answer

    def __init__(self, request: Request) -> None:
        self.request = request
        self.latch = threading.Lock()
        self.latch.acquire()
        self.taken = self.leads = False
        self.error: Exception | None = None


class Gather(Generic[Request, Answer]):
    """`together` answers several requests in order, all or none; with what it raises, `alone` is asked for each by its
    own thread, so that one bad request fails nobody else's. Requests of one `key` are never in one call."""

    def __init__(
        self,
        together: Callable[[Sequence[Request]], Sequence[Answer]],
        alone: Callable[[Request, Exception], Answer],
        key: Callable[[Request], Hashable],
    ) -> None:
        self._together = together
        self._alone = alone
        self._key = key
        self._lock = threading.Lock()
        self._waiting: list[_Entry[Request, Answer]] = []
        self._leaders = 0

    def __call__(self, request: Request) -> Answer:
        """The request's answer, once it is committed. Raises what `alone` raises."""
        entry = _Entry[Request, Answer](request)
        with self._lock:
            if not self._leaders:
                self._appoint(entry)
            else:
                self._waiting.append(entry)
        while not entry.leads and not entry.latch.acquire(timeout=STUCK):
            with self._lock:
                if not entry.taken and not entry.leads:
                    self._waiting.remove(entry)
                    self._appoint(entry)
        if entry.leads:
            self._lead(entry)
        return entry.answer if entry.error is None else self._alone(request, entry.error)

    def _appoint(self, entry: _Entry[Request, Answer]) -> None:
        entry.leads = True
        self._leaders += 1

    def _lead(self, own: _Entry[Request, Answer]) -> None:
        batch = self._take(own)
        try:
            answers = self._together([entry.request for entry in batch])
            for entry, answer in zip(batch, answers, strict=True):
                entry.answer = answer
        except Exception as error:
            for entry in batch:
                entry.error = error
            log.log(logging.WARNING if len(batch) > 1 else logging.DEBUG, "%d together: %s; alone", len(batch), error)
        finally:
            with self._lock:
                self._leaders -= 1
                if self._waiting:
                    successor = self._waiting.pop(0)
                    self._appoint(successor)
                    successor.latch.release()
            for entry in batch:
                if entry is not own:
                    entry.latch.release()

    def _take(self, own: _Entry[Request, Answer]) -> list[_Entry[Request, Answer]]:
        with self._lock:
            batch, self._waiting = choose([own, *self._waiting], lambda entry: self._key(entry.request))
            for entry in batch:
                entry.taken = True
        return batch
