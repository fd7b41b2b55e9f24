"""Plain JSON-RPC over POST: no discovery, no handshake, no session.

The tool's name is sent twice, because some of these servers read `params.tool` and others `params.name`.
"""

from __future__ import annotations

from typing import Any

from workers.mcp_client.budget import Budget
from workers.mcp_client.call import Call
from workers.mcp_client.catalogue import read_catalogue
from workers.mcp_client.channel import Channel
from workers.mcp_client.eras import BARE


class Bare:
    """One server of this kind."""

    name = BARE

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def call(self, call: Call, budget: Budget) -> Any:
        params: dict[str, Any] = {"name": call.tool, "tool": call.tool, "arguments": call.arguments}
        if call.meta:
            params["_meta"] = call.meta
        return self._channel.request("tools/call", params, budget, headers=call.headers).result

    def list_tools(self, budget: Budget) -> list[dict[str, Any]]:
        catalogue = read_catalogue(
            lambda params: self._channel.request("tools/list", params, budget).result,
            self._channel.config.where,
            with_marks=False,
        )
        return list(catalogue.tools)
