"""The thread that is the parent of both servers: it starts them, restarts what dies, and stops them.

Invariant: every server is spawned by this thread, and this thread ends only after both have ended. (On Linux a server's
last will is tied to the thread that forked it, so that kill -9 of the owner takes the servers down with it.)
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from persistence.embedded.server import Server

logger = logging.getLogger(__name__)

POLL = 0.1
WINDOW = 60.0


class Keeper:
    """Keeps servers running from `open` to `close`."""

    def __init__(self, servers: Sequence[Server]):
        self._thread = threading.Thread(target=self._run, name="afu9-embedded", daemon=True)
        self._servers = servers
        self._halt = threading.Event()
        self._settled = threading.Event()
        self._failure: Exception | None = None
        self._restarts: dict[str, list[float]] = {server.title: [] for server in servers}

    def open(self) -> None:
        """Return when all servers answer; raise what kept one from it, after all have been stopped again."""
        self._thread.start()
        self._settled.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def close(self) -> None:
        """Stop all servers and wait for their end. May be called again."""
        self._halt.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._start_all()
            self._settled.set()
            while not self._halt.wait(POLL):
                self._revive()
        except Exception as error:
            self._failure = error
        finally:
            for server in self._servers:
                self._stop(server)
            self._settled.set()

    def _start_all(self) -> None:
        for server in self._servers:
            server.put_down_orphan()
        for server in self._servers:
            server.prepare()
            server.start()
        for server in self._servers:
            server.await_answer(self._halt)

    def _revive(self) -> None:
        """Restart what died. The n-th restart within a minute waits 0.1 s * 4**n: about five, then one a minute."""
        for server in self._servers:
            if not server.died():
                continue
            now = time.monotonic()
            recent = [moment for moment in self._restarts[server.title] if moment > now - WINDOW]
            if recent and now < recent[-1] + 0.1 * 4 ** len(recent):
                continue
            self._restarts[server.title] = [*recent, now]
            logger.warning("%s ended by itself and is started again; its log is %s", server.title, server.log)
            try:
                server.start()
            except Exception as error:
                logger.warning("%s could not be started again: %s", server.title, error)

    def _stop(self, server: Server) -> None:
        try:
            server.stop()
        except Exception as error:
            logger.warning("%s could not be stopped: %s", server.title, error)
