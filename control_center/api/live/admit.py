"""Whether a reader may read, asked when it comes and again while it stays, and the first thing it hears."""

from __future__ import annotations

from importlib.metadata import version

from starlette.requests import HTTPConnection

from control_center.api.auth import Gate
from control_center.api.live.hub import Hub
from control_center.api.live.messages import HEARTBEAT_SECONDS, Hello, Message, say


async def check(connection: HTTPConnection) -> None:
    """Raises Problem for a reader that may not read, or may no longer: a revoked key ends what it opened."""
    gate: Gate = connection.app.state.gate
    await gate.principal(connection)


def hello(hub: Hub) -> Message:
    """The first message."""
    server = f"afu9/{version('afu9')}"
    return say(Hello(server=server, heartbeat_ms=round(HEARTBEAT_SECONDS * 1000), mode=hub.mode))
