"""What the three eras of MCP have in common for this client, and the versions it knows.

modern: 2026-07-28, stateless, everything rides in each request. legacy: 2024-11-05 to 2025-11-25, a handshake and a
session. jsonrpc: plain JSON-RPC without any of it.
"""

from __future__ import annotations

from typing import Any, Protocol

from workers.mcp_client.budget import Budget
from workers.mcp_client.call import Call

MODERN_VERSIONS = ("2026-07-28",)
LEGACY_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
BARE = "jsonrpc"


class Era(Protocol):
    """A server whose protocol is known. Methods raise Trouble, DeadlinePassed or CallCancelled."""

    @property
    def name(self) -> str:
        """The version spoken, or `jsonrpc`, or `in-process`."""
        ...

    def call(self, call: Call, budget: Budget) -> Any:
        """The result of tools/call."""
        ...

    def list_tools(self, budget: Budget) -> list[dict[str, Any]]: ...
