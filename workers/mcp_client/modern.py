"""The protocol of 2026-07-28: no handshake and no session; version and identity ride in every request.

HTTP headers must repeat what the body says, including the arguments a tool marks with `x-mcp-header`; so the tools are
listed before the first call, and listed again when the server objects to the headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.mcp_client.budget import Budget
from workers.mcp_client.call import CLIENT_INFO, Call, header_value
from workers.mcp_client.catalogue import Catalogue, read_catalogue
from workers.mcp_client.channel import Channel
from workers.mcp_client.eras import MODERN_VERSIONS
from workers.mcp_client.failures import HEADER_MISMATCH, METHOD_NOT_FOUND, UNSUPPORTED_VERSION, Trouble
from workers.mcp_client.flight import Flight
from workers.mcp_client.parameter_headers import headers_for
from workers.mcp_client.servers import NOTHING

_PREFIX = "io.modelcontextprotocol/"


class Modern:
    """One server of this era."""

    def __init__(self, channel: Channel, version: str = MODERN_VERSIONS[0]) -> None:
        self._channel = channel
        self._catalogue: Flight[Catalogue] = Flight()
        self.name = version

    def call(self, call: Call, budget: Budget) -> Any:
        try:
            return self._call(call, self._known_tools(budget), budget)
        except Trouble as error:
            if error.code == HEADER_MISMATCH:
                return self._call(call, self._list_anew(budget), budget)
            if error.code == UNSUPPORTED_VERSION and (version := choose_version(error.data)):
                self.name = version
                return self._call(call, self._known_tools(budget), budget)
            raise

    def discover(self, budget: Budget) -> Any:
        return self._ask("server/discover", {}, budget)

    def list_tools(self, budget: Budget) -> list[dict[str, Any]]:
        return list(self._list_anew(budget).tools)

    def _call(self, call: Call, known: Catalogue | None, budget: Budget) -> Any:
        headers = dict(call.headers)
        if known is not None and call.tool in known.marks:
            headers |= headers_for(known.marks[call.tool], call.arguments)
        params = {"name": call.tool, "arguments": call.arguments}
        return self._ask("tools/call", params, budget, headers=headers, meta=call.meta)

    def _known_tools(self, budget: Budget) -> Catalogue | None:
        """The catalogue, for its header marks: needed over HTTP only."""
        if not self._channel.config.url:
            return None
        present = self._catalogue.peek()
        if present is not None and present.is_fresh:
            return present
        try:
            return self._catalogue.get(lambda: self._read(budget), budget, unwanted=present)
        except Trouble as error:
            if present is not None:
                return present
            raise error.before_the_tool() from error

    def _list_anew(self, budget: Budget) -> Catalogue:
        return self._catalogue.get(lambda: self._read(budget), budget, unwanted=self._catalogue.peek())

    def _read(self, budget: Budget) -> Catalogue:
        def ask(params: dict[str, Any]) -> Any:
            try:
                return self._ask("tools/list", params, budget)
            except Trouble as error:
                if error.code == METHOD_NOT_FOUND:
                    return {"tools": []}
                raise

        return read_catalogue(ask, self._channel.config.where, with_marks=bool(self._channel.config.url))

    def _ask(
        self,
        method: str,
        params: Mapping[str, Any],
        budget: Budget,
        *,
        headers: Mapping[str, str] = NOTHING,
        meta: Mapping[str, Any] | None = None,
    ) -> Any:
        envelope = {
            _PREFIX + "protocolVersion": self.name,
            _PREFIX + "clientInfo": CLIENT_INFO,
            _PREFIX + "clientCapabilities": {},
        }
        sent = {"mcp-protocol-version": self.name, "mcp-method": method, **headers}
        if "name" in params:
            sent["mcp-name"] = header_value(str(params["name"]))
        body = {**params, "_meta": {**(meta or {}), **envelope}}
        return self._channel.request(method, body, budget, headers=sent).result


def choose_version(data: Any) -> str | None:
    """The newest modern version in `data.supported` that this client speaks."""
    supported = data.get("supported") if isinstance(data, dict) else None
    offered = supported if isinstance(supported, list) else []
    return next((version for version in MODERN_VERSIONS if version in offered), None)
