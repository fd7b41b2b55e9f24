"""Do a thing once for all threads that want it at the same time.

The first thread does the work, the others wait for its result, each within its own budget. A failure is shared with
those who waited for it and is not remembered: the next caller tries anew. A leader that ran out of its own time (or
was cancelled) says nothing about the thing itself, so one of the waiters takes over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from workers.mcp_client.budget import Budget, CallCancelled, DeadlinePassed
from workers.mcp_client.failures import Trouble

T = TypeVar("T")


class Flight(Generic[T]):
    """A value that is made on demand and can be made anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value: T | None = None
        self._flying: _Attempt | None = None

    def peek(self) -> T | None:
        """The value as it is now."""
        return self._value

    def get(self, make: Callable[[], T], budget: Budget, *, unwanted: T | None = None) -> T:
        """The value; made by `make` if there is none, or if the present one is `unwanted` (the very object)."""
        value = self._value
        if value is not None and value is not unwanted:  # the common case; nothing is decided here, so no lock
            return value
        while True:
            with self._lock:
                value = self._value
                if value is not None and value is not unwanted:
                    return value
                attempt, leads = self._flying, False
                if attempt is None:
                    attempt = self._flying = _Attempt()
                    leads = True
            if leads:
                return self._lead(attempt, make)
            budget.wait(attempt.ended)
            if attempt.trouble is not None:
                raise attempt.trouble

    def forget(self, value: T) -> None:
        """Drop the value if it is still this one."""
        with self._lock:
            if self._value is value:
                self._value = None

    def _lead(self, attempt: _Attempt, make: Callable[[], T]) -> T:
        value: T | None = None
        try:
            value = make()
            return value
        except Trouble as error:
            if error.failed.kind != "timeout":
                attempt.trouble = error
            raise
        except (DeadlinePassed, CallCancelled):
            raise
        finally:
            with self._lock:
                if value is not None:
                    self._value = value
                self._flying = None
            attempt.ended.set()


class _Attempt:
    def __init__(self) -> None:
        self.ended = threading.Event()
        self.trouble: Trouble | None = None
