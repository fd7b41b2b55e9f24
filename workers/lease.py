"""The worker's sign of life: one row, renewed from a thread and a connection of its own.

A worker that cannot renew its lease must count as dead, whatever its other threads do; so nothing else shares them. The
answer names the steps whose execution was stopped meanwhile.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from uuid import UUID

import psycopg

from persistence.connection import Connection
from persistence.errors import Unreachable
from persistence.pool import connect
from persistence.statements import statement

log = logging.getLogger(__name__)

LOOK = 1.0  # seconds between two looks for steps that are to be stopped


class Lease:
    """`start()` writes the row at once, so that no step can be claimed without it, and then keeps it alive."""

    def __init__(
        self,
        dsn: str,
        worker_id: UUID,
        *,
        role: str,
        threads: int,
        seconds: float,
        on_stopped: Callable[[Iterable[UUID]], None],
    ):
        self._dsn = dsn
        self._seconds = seconds
        self._on_stopped = on_stopped
        self._parameters = {
            "worker_id": worker_id,
            "role": role,
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "threads": threads,
        }
        self._connection: Connection | None = None
        self._renewed_at = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def start(self) -> None:
        """Raises Unreachable if the first renewal fails."""
        self._renew()
        self._thread.start()

    def alive(self) -> bool:
        """Whether the thread that renews it runs."""
        return self._thread.is_alive()

    def silent_for(self) -> float:
        """Seconds since the row was last renewed."""
        return time.monotonic() - self._renewed_at

    def stop(self) -> None:
        """Ends the lease: the row is removed, and a step still held would be charged at once."""
        self._stopping.set()
        self._thread.join(timeout=10)
        try:
            self._execute("end_lease")
        except Unreachable as error:
            log.warning("lease: not removed, it will run out: %s", error)
        finally:
            if self._connection is not None:
                self._connection.close()

    def _keep(self) -> None:
        while not self._stopping.wait(min(LOOK, self._seconds)):
            try:
                if self.silent_for() + LOOK / 2 >= self._seconds:
                    self._renew()
                else:
                    self._on_stopped(self._execute("stopped_steps"))
            except Exception as error:  # a thread that ends would cost this worker its steps
                log.error("lease: not renewed: %s", error)

    def _renew(self) -> None:
        asked_at = time.monotonic()
        self._on_stopped(self._execute("renew_lease"))
        self._renewed_at = asked_at

    def _execute(self, query: str) -> list[UUID]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._dsn)
            cursor = self._connection.execute(statement(query), self._parameters)
            row = cursor.fetchone() if cursor.description else None
            return list(row["stopped"]) if row else []
        except psycopg.Error as error:
            if self._connection is not None:
                self._connection.close()
            raise Unreachable(f"PostgreSQL does not answer: {' '.join(str(error).split())}") from error
