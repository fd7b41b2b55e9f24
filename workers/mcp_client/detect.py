"""Which era a server speaks, found out once and never with a tools/call (an older server might run it).

server/discover -> modern; else initialize -> legacy; initialize answered "method not found" -> plain JSON-RPC.
The configuration key `protocol` skips the questions.
"""

from __future__ import annotations

from contextlib import suppress

from workers.mcp_client.bare import Bare
from workers.mcp_client.budget import Budget, DeadlinePassed
from workers.mcp_client.channel import Channel
from workers.mcp_client.eras import BARE, LEGACY_VERSIONS, MODERN_VERSIONS, Era
from workers.mcp_client.failures import METHOD_NOT_FOUND, UNSUPPORTED_VERSION, Trouble, trouble
from workers.mcp_client.http_channel import HttpChannel
from workers.mcp_client.legacy import Legacy
from workers.mcp_client.modern import Modern, choose_version

_PROBE_SECONDS = 10.0


def detect(channel: Channel, budget: Budget) -> Era:
    """The server's era, connected. Whatever goes wrong here, no tool has run."""
    try:
        return _detect(channel, budget)
    except Trouble as error:
        raise error.before_the_tool() from error


def _detect(channel: Channel, budget: Budget) -> Era:
    pinned = channel.config.protocol
    if pinned == BARE:
        return Bare(channel)
    if pinned in MODERN_VERSIONS:
        return Modern(channel, pinned)
    if pinned == "auto" and (modern := _modern(channel, budget)) is not None:
        return modern
    return _legacy_or_bare(channel, budget, may_be_bare=pinned == "auto")


def _modern(channel: Channel, budget: Budget) -> Modern | None:
    """None: the server does not know the question. Raises Trouble if it cannot be asked at all."""
    modern = Modern(channel)
    try:
        result = modern.discover(budget.part(_PROBE_SECONDS))
    except Trouble as error:
        if error.code == UNSUPPORTED_VERSION:
            return _other_version(channel, error)
        if error.status is None and error.code is None and error.failed.kind == "transport":
            raise
        if error.failed.kind == "rate_limited" or error.status in (401, 403):
            raise
        return None
    versions = result.get("supportedVersions") if isinstance(result, dict) else None
    chosen = choose_version({"supported": versions})
    return Modern(channel, chosen) if chosen else None


def _other_version(channel: Channel, error: Trouble) -> Modern | None:
    if version := choose_version(error.data):
        return Modern(channel, version)
    supported = error.data.get("supported") if isinstance(error.data, dict) else None
    if isinstance(supported, list) and supported and not set(supported) & set(LEGACY_VERSIONS):
        known = ", ".join(MODERN_VERSIONS + LEGACY_VERSIONS)
        raise trouble(
            "protocol_error",
            f"{channel.config.where} speaks only {', '.join(map(str, supported))}; this client knows {known}",
        )
    return None


def _legacy_or_bare(channel: Channel, budget: Budget, *, may_be_bare: bool) -> Era:
    legacy = Legacy(channel)
    try:
        legacy.connect(budget)
    except Trouble as error:
        if error.code == METHOD_NOT_FOUND and may_be_bare and channel.config.url:
            return Bare(channel)
        if error.status in (400, 404, 405) and error.code is None and _is_old_sse(channel, budget):
            raise trouble(
                "protocol_error",
                f"{channel.config.where} speaks HTTP+SSE (2024-11-05), which is not supported: "
                "configure its Streamable HTTP address, often the path /mcp",
            ) from error
        raise
    return legacy


def _is_old_sse(channel: Channel, budget: Budget) -> bool:
    """Whether a GET opens a stream that begins with the event `endpoint`, as the first transport over HTTP did."""
    if not isinstance(channel, HttpChannel):
        return False
    with suppress(Trouble, DeadlinePassed):
        url, accept = channel.config.url, {"accept": "text/event-stream"}
        status, start = channel.fetch("GET", url, budget.part(2.0), headers=accept)
        return status == 200 and start.lstrip().startswith(b"event: endpoint")
    return False
