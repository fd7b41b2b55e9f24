"""How long one call may still wait, and whether somebody has asked it to stop.

Every wait of the client (a socket, a lock, a child's answer) is cut into short slices and asks its budget between them,
so a call ends at its wall-clock deadline however slowly a server trickles, and soon after its `cancelled` event is set.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

SLICE_SECONDS = 0.15


class DeadlinePassed(Exception):
    """The call's time is up."""


class CallCancelled(Exception):
    """The caller set the call's `cancelled` event."""


class Budget:
    """The wall-clock deadline and the cancel event of one call; shared by everything the call does."""

    __slots__ = ("cancelled", "connect_timeout", "deadline", "seconds")

    def __init__(
        self, seconds: float, *, connect_timeout: float = 5.0, cancelled: threading.Event | None = None
    ) -> None:
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self.connect_timeout = connect_timeout
        self.cancelled = cancelled

    def check(self) -> float:
        """The seconds left, always more than zero. Raises DeadlinePassed or CallCancelled."""
        if self.cancelled is not None and self.cancelled.is_set():
            raise CallCancelled
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise DeadlinePassed
        return left

    def slice(self) -> float:
        """How long to block before asking again; without a cancel event nothing but the deadline can end a wait."""
        left = self.check()
        return left if self.cancelled is None else min(left, SLICE_SECONDS)

    def part(self, seconds: float) -> Budget:
        """A budget for one phase of the call: at most `seconds`, never longer than the call itself."""
        left = self.check()
        return Budget(min(seconds, left), connect_timeout=self.connect_timeout, cancelled=self.cancelled)

    def wait(self, event: threading.Event) -> None:
        """Wait until the event is set."""
        while not event.wait(self.slice()):
            pass

    def sleep(self, seconds: float) -> None:
        """Wait; the deadline ends the wait as it ends any other, a cancellation at once."""
        end = time.monotonic() + seconds
        woken = self.cancelled or threading.Event()
        while (left := end - time.monotonic()) > 0:
            woken.wait(min(left, self.check()))

    @contextmanager
    def holding(self, lock: threading.Lock | threading.Semaphore) -> Iterator[Self]:
        """Hold the lock (or one place of a semaphore) for the block."""
        while not lock.acquire(timeout=self.slice()):
            pass
        try:
            yield self
        finally:
            lock.release()
