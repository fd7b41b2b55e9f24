"""What a trace tells of how a server was called: the protocol, the session, the place; no header, path or argument."""

from __future__ import annotations

import httpx

from orchestrator import trace_names as names
from workers.mcp_client.eras import LEGACY_VERSIONS, MODERN_VERSIONS, Era
from workers.mcp_client.legacy import SESSION_HEADER, Legacy
from workers.mcp_client.servers import ServerConfig

PORTS = {"http": 80, "https": 443}


def describe_call(config: ServerConfig, era: Era) -> dict[str, str | int]:
    """Attributes, by names of orchestrator/trace_names.py; those that hold for this server."""
    found: dict[str, str | int] = {}
    if config.url:
        url = httpx.URL(config.url)
        found |= {names.TRANSPORT: "tcp", names.SERVER_ADDRESS: url.host}
        found[names.SERVER_PORT] = url.port or PORTS[url.scheme]
    elif config.command:
        found[names.TRANSPORT] = "pipe"
    if era.name in (*MODERN_VERSIONS, *LEGACY_VERSIONS):
        found[names.MCP_VERSION] = era.name
    if isinstance(era, Legacy) and (session := era.session_headers().get(SESSION_HEADER)):
        found[names.MCP_SESSION] = session
    return found
