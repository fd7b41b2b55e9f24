"""Whether Redis answers, as this process's own calls saw it, so that a thread need not wait to learn it again.

Invariant: while Redis is away at most one call a second tries it; the first one that succeeds ends the outage.
"""

from __future__ import annotations

import logging
import threading
import time

log = logging.getLogger(__name__)

TRY_AGAIN = 1.0  # seconds


class RedisHealth:
    """Shared by all threads that use one broker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away_since: float | None = None
        self._next_try = 0.0
        self.outages = 0  # so far, the present one included

    def away_for(self) -> float:
        """Seconds since Redis was first missed; 0 while it answers."""
        since = self._away_since
        return 0.0 if since is None else time.monotonic() - since

    def worth_trying(self) -> bool:
        """Whether this caller should ask Redis: always while it answers, else whoever comes first in each second."""
        if self._away_since is None:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._next_try:
                return False
            self._next_try = now + TRY_AGAIN
            return True

    def failed(self, error: Exception) -> None:
        """Redis did not answer, or refused to work."""
        with self._lock:
            if self._away_since is None:
                self._away_since = time.monotonic()
                self.outages += 1
                log.warning("redis: it does not answer (%s); steps go on without it", error)
            self._next_try = time.monotonic() + TRY_AGAIN

    def answered(self) -> None:
        """Redis did what it was asked."""
        if self._away_since is None:
            return
        with self._lock:
            if self._away_since is not None:
                log.warning("redis: it answers again after %.1f s", time.monotonic() - self._away_since)
                self._away_since = None
