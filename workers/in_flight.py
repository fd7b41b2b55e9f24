"""The attempts this process is running, and how to stop them.

Invariant: one thread at a time has an attempt, from before its claim until after its charge; a second message of it
finds it taken. A step that was claimed together with the completion of the one before it is *handed* to a thread until
that begins it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from persistence.transitions import Claim, ReadyStep
from persistence.write_log import BUSY_WITH


@dataclass(frozen=True, slots=True)
class Handed:
    """A claimed step of a sequence that this process has been going on with for so many steps, since then (seconds of the
    monotonic clock)."""

    claim: Claim
    steps: int
    since: float


class InFlight:
    """Thread-safe register of running attempts; each has an event that ends its call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[ReadyStep, threading.Event] = {}
        self._handed: dict[ReadyStep, Handed] = {}
        self.closed = threading.Event()
        """Set once no further attempt may begin; a claim that waits for PostgreSQL gives up then."""

    def begin(self, step: ReadyStep) -> bool:
        """Registers an attempt; False if another thread has it, or none may be claimed any more."""
        with self._lock:
            if step in self._running or (self.closed.is_set() and step not in self._handed):
                return False
            self._running[step] = threading.Event()
            return True

    def count(self) -> int:
        """How many attempts are under way."""
        return len(self._running)

    def end(self, step: ReadyStep) -> None:
        """Called by the thread that ran it, after its charge."""
        with self._lock:
            self._running.pop(step, None)
        BUSY_WITH.set(None)

    def hand(self, handed: Handed) -> ReadyStep:
        """Keeps a claim for the thread that gets its message."""
        step = ReadyStep(handed.claim.step_id, handed.claim.attempt - 1)
        with self._lock:
            self._handed[step] = handed
        return step

    def take_handed(self, step: ReadyStep) -> Handed | None:
        """The claim that was kept for this attempt."""
        with self._lock:
            return self._handed.pop(step, None)

    def take_all_handed(self) -> list[Claim]:
        """Those that no thread has begun."""
        with self._lock:
            left = [handed.claim for handed in self._handed.values()]
            self._handed.clear()
            return left

    @contextmanager
    def only(self, step: ReadyStep) -> Iterator[None]:
        """For a caller of its own thread: registers the attempt while it runs and is charged."""
        self.begin(step)
        try:
            yield
        finally:
            self.end(step)

    def cancelled(self, step: ReadyStep) -> threading.Event:
        """The event that ends this attempt's call."""
        with self._lock:
            event = self._running.get(step)
            if event is None:
                event = self._running[step] = threading.Event()
            return event

    def cancel(self, step_ids: Iterable[UUID]) -> None:
        """Ends these steps' calls."""
        stopped = set(step_ids)
        with self._lock:
            for step, event in self._running.items():
                if step.step_id in stopped:
                    event.set()

    def close(self) -> None:
        """Lets no further attempt begin; those that run go on."""
        with self._lock:
            self.closed.set()

    def cancel_all(self) -> int:
        """Ends every call; how many there were."""
        self.close()
        with self._lock:
            for event in self._running.values():
                event.set()
            return len(self._running)
