"""The API on a port of its own, in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from control_center.api.app import make_app
from control_center.api.await_request import ImpatientProtocol
from control_center.api.serve import ApiServer
from control_center.keys import Trust
from control_center.serve_api import listen
from persistence.settings import Settings
from tests.fleet import wait_until


@contextmanager
def running_api(settings: Settings, trust: Trust | None = None) -> Iterator[str]:
    """Yields its address."""
    app = make_app(settings, trust or Trust(keys=False))
    with listen("127.0.0.1", 0) as listener:
        server = ApiServer(
            uvicorn.Config(app, http=ImpatientProtocol, log_level="error", lifespan="on", loop="asyncio"), app
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="api")
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive(), 20, "the API's start")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive(), "the API did not stop"
