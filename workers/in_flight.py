"""The attempts this process is running, and how to stop them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID


class InFlight:
    """Thread-safe register of running attempts; each has an event that ends its call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[UUID, threading.Event] = {}
        self._stopping = False

    @contextmanager
    def track(self, step_id: UUID) -> Iterator[threading.Event]:
        """Registers an attempt while it runs; yields the event that cancels it."""
        cancelled = threading.Event()
        with self._lock:
            self._running[step_id] = cancelled
            if self._stopping:
                cancelled.set()
        try:
            yield cancelled
        finally:
            with self._lock:
                if self._running.get(step_id) is cancelled:
                    del self._running[step_id]

    def cancel(self, step_ids: Iterable[UUID]) -> None:
        """Ends these attempts' calls."""
        with self._lock:
            for step_id in step_ids:
                if step_id in self._running:
                    self._running[step_id].set()

    def cancel_all(self) -> int:
        """Ends every call, also those that are only about to begin; how many there were."""
        with self._lock:
            self._stopping = True
            for cancelled in self._running.values():
                cancelled.set()
            return len(self._running)
