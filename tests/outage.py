"""A PostgreSQL and a Valkey of a test's own, to be taken away and brought back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from persistence.embedded import Endpoints, open_embedded
from persistence.embedded.process import put_down
from persistence.embedded.server import Server
from persistence.migrate import migrate


class OwnServers:
    """Both servers and their endpoints. A server that was stopped stays down until it is started again."""

    def __init__(self, endpoints: Endpoints, valkey: Server, postgres: Server):
        self.endpoints = endpoints
        self.valkey = valkey
        self.postgres = postgres

    @contextmanager
    def down(self, server: Server) -> Iterator[None]:
        """It refuses connections."""
        process = server.process
        assert process is not None
        server.process = None  # so that its keeper does not start it again
        put_down(process.pid, lambda: process.poll() is None, server.steps)
        try:
            yield
        finally:
            server.start()
            server.await_answer(threading.Event())

    @contextmanager
    def stalled(self, server: Server) -> Iterator[None]:
        """It takes connections and answers nothing."""
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(server.process.pid, signal.SIGCONT)


@contextmanager
def own_servers(folder: Path) -> Iterator[OwnServers]:
    """With our schema; nothing else uses them."""
    folder.chmod(0o711)  # as root, PostgreSQL runs under another account
    opened = open_embedded(folder / "servers", durable=False)
    try:
        keeper = opened._ownership._keeper  # type: ignore[union-attr]
        valkey, postgres = keeper._servers  # type: ignore[union-attr]
        migrate(opened.endpoints.database_url)
        yield OwnServers(opened.endpoints, valkey, postgres)
    finally:
        opened.close()
