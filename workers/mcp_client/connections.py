"""The open connections that wait for the next call, the last one used on top.

Taking and giving back cost the same however many there are. Because the newest is taken first, the others grow old when
fewer calls are made at a time, and are closed: so there are never more than calls were under way at once in the last
IDLE_SECONDS.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections import deque

from workers.mcp_client.budget import Budget
from workers.mcp_client.interruptible import Connection, Origin

IDLE_SECONDS = 2.0
"""Common servers close theirs after 5 s, and the call that meets the closing is lost with an unknown outcome."""

MOST_IDLE = 512
"""Of one origin; more are closed instead of kept."""


class Connections:
    """Those of one process. Calls are limited by each server's `max_inflight`, not here."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._idle: dict[Origin, deque[Connection]] = {}
        self._next_sweep = 0.0
        self._closed = False

    def take(self, origin: Origin, budget: Budget) -> Connection:
        """One that is open as far as can be known, for the caller alone. Raises httpx.ConnectError, ConnectTimeout."""
        while (connection := self._newest(origin)) is not None:
            if time.monotonic() - connection.idle_since < IDLE_SECONDS and connection.is_quiet():
                connection.budget = budget
                return connection
            connection.close()
        return Connection.open(origin, self._context, budget)

    def give_back(self, connection: Connection) -> None:
        """For one whose answer was read to the end."""
        connection.idle_since = now = time.monotonic()
        surplus = self._keep(connection, now)
        for old in surplus:
            old.close()

    def close(self) -> None:
        """Closes those that are idle; one that is in use is closed when it is given back."""
        with self._lock:
            self._closed = True
            kept = [connection for waiting in self._idle.values() for connection in waiting]
            self._idle.clear()
        for connection in kept:
            connection.close()

    def _newest(self, origin: Origin) -> Connection | None:
        with self._lock:
            waiting = self._idle.get(origin)
            return waiting.pop() if waiting else None

    def _keep(self, connection: Connection, now: float) -> list[Connection]:
        """Those that are to be closed instead. No system call happens under the lock: others would queue behind it."""
        with self._lock:
            if self._closed:
                return [connection]
            waiting = self._idle.setdefault(connection.origin, deque())
            waiting.append(connection)
            surplus = [waiting.popleft()] if len(waiting) > MOST_IDLE else []
            if now >= self._next_sweep:
                self._next_sweep = now + IDLE_SECONDS / 4
                for group in self._idle.values():
                    while group and now - group[0].idle_since >= IDLE_SECONDS:
                        surplus.append(group.popleft())
            return surplus
