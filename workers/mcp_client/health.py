"""Is a server there, and what does it speak: one look, for dashboards and `doctor` commands."""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import urljoin

from workers.mcp_client.bare import Bare
from workers.mcp_client.budget import Budget, DeadlinePassed
from workers.mcp_client.eras import Era
from workers.mcp_client.failures import METHOD_NOT_FOUND, Trouble, trouble
from workers.mcp_client.http_channel import HttpChannel
from workers.mcp_client.peer import HttpPeer, Peer


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """`era` is the protocol version, `jsonrpc` or `in-process`; `tools` is None where the server does not list them;
    `latency_ms` is the time of the whole look, which on the first one includes starting and getting to know the server.
    """

    server: str
    reachable: bool
    era: str | None = None
    tools: int | None = None
    latency_ms: float | None = None
    error: str | None = None


def look(server: str, peer: Peer, budget: Budget) -> ServerHealth:
    """Reach the server and count its tools. Never raises."""
    begin = time.monotonic()
    name: str | None = None
    try:
        with peer.use(budget) as era:
            name = era.name
            if isinstance(era, Bare) and isinstance(peer, HttpPeer):
                _get_health(peer.channel, budget)
            tools = _count(era, budget)
            name = era.name
    except Trouble as error:
        return ServerHealth(server, False, name, error=error.failed.message)
    except DeadlinePassed:
        return ServerHealth(server, False, name, error=f"server {server} was not ready within {budget.seconds:.3g} s")
    return ServerHealth(server, True, name, tools, round((time.monotonic() - begin) * 1000, 1))


def _count(era: Era, budget: Budget) -> int | None:
    try:
        return len(era.list_tools(budget))
    except Trouble as error:
        if error.code == METHOD_NOT_FOUND:
            return None
        raise


def _get_health(channel: HttpChannel, budget: Budget) -> None:
    """A plain JSON-RPC server has no handshake to prove it well, but often a GET /health. One without is not ill."""
    status, _ = channel.fetch("GET", urljoin(channel.config.url, "/health"), budget)
    if status >= 500:
        raise trouble("http_error", f"{channel.config.where} answered GET /health with HTTP {status}")
