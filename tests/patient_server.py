"""An MCP server whose one tool answers after a minute, and that notices when nobody waits any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from benchmarks.tool_server import Connection

MINUTE = 60.0


class Patient(Connection):
    """As the benchmark's, but for the wait."""

    seconds = MINUTE
    waiting = False
    called = threading.Event()
    left = threading.Event()
    opened: ClassVar[list[asyncio.Transport]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        self.opened.append(transport)

    def respond(self, message: dict[str, Any]) -> None:
        super().respond(message)
        if message["method"] == "tools/call":
            self.waiting = True
            self.called.set()

    def connection_lost(self, error: Exception | None) -> None:
        if self.waiting:
            self.left.set()


@contextmanager
def patient_server() -> Iterator[tuple[str, type[Patient]]]:
    """Its URL, and the class whose events tell that it was called (`called`) and left alone (`left`)."""
    served = type("Served", (Patient,), {"called": threading.Event(), "left": threading.Event(), "opened": []})
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(served, "127.0.0.1", 0))
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield url, served
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(close(server, served))
        loop.close()


async def close(server: asyncio.Server, served: type[Patient]) -> None:
    """Every connection too, also one just being accepted: whatever a loop leaves open warns in some later test."""
    server.close()
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
    for transport in served.opened:
        transport.abort()
    await asyncio.sleep(0)
