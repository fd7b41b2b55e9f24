"""The protocol of 2024-11-05 to 2025-11-25: a handshake first, and over HTTP often a session.

A server may forget a session at any time; then nothing of the request was executed. One thread shakes hands again for
all, and each request is sent once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.mcp_client.budget import Budget
from workers.mcp_client.call import CLIENT_INFO, Call
from workers.mcp_client.catalogue import read_catalogue
from workers.mcp_client.channel import Channel
from workers.mcp_client.eras import LEGACY_VERSIONS
from workers.mcp_client.failures import Trouble, trouble
from workers.mcp_client.flight import Flight
from workers.mcp_client.servers import NOTHING

SESSION_HEADER = "mcp-session-id"


@dataclass(frozen=True, slots=True)
class Session:
    """What the handshake agreed on; compared by identity, so that a lost one is replaced once. `id` may be empty."""

    id: str
    version: str

    def headers(self) -> dict[str, str]:
        headers = {"mcp-protocol-version": self.version}
        return headers | {SESSION_HEADER: self.id} if self.id else headers


class Legacy:
    """One server of this era."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._session: Flight[Session] = Flight()

    @property
    def name(self) -> str:
        session = self._session.peek()
        return session.version if session else LEGACY_VERSIONS[0]

    def connect(self, budget: Budget) -> None:
        """Shake hands unless that is done."""
        self._ready(budget)

    def call(self, call: Call, budget: Budget) -> Any:
        params: dict[str, Any] = {"name": call.tool, "arguments": call.arguments}
        if call.meta:
            params["_meta"] = call.meta
        return self._ask("tools/call", params, budget, call.headers)

    def list_tools(self, budget: Budget) -> list[dict[str, Any]]:
        catalogue = read_catalogue(
            lambda params: self._ask("tools/list", params, budget), self._channel.config.where, with_marks=False
        )
        return list(catalogue.tools)

    def session_headers(self) -> dict[str, str]:
        """The headers of the present session, empty without one."""
        session = self._session.peek()
        return session.headers() if session and session.id else {}

    def _ask(self, method: str, params: Mapping[str, Any], budget: Budget, headers: Mapping[str, str] = NOTHING) -> Any:
        session = self._ready(budget)
        try:
            return self._send(session, method, params, budget, headers)
        except Trouble as error:
            if not is_session_loss(error, session):
                raise
        renewed = self._ready(budget, lost=session)
        return self._send(renewed, method, params, budget, headers)

    def _send(
        self, session: Session, method: str, params: Mapping[str, Any], budget: Budget, headers: Mapping[str, str]
    ) -> Any:
        sent = {**headers, **session.headers()}
        return self._channel.request(method, params, budget, headers=sent, session=True).result

    def _ready(self, budget: Budget, lost: Session | None = None) -> Session:
        try:
            return self._session.get(lambda: self._handshake(budget), budget, unwanted=lost)
        except Trouble as error:
            raise error.before_the_tool() from error

    def _handshake(self, budget: Budget) -> Session:
        offer = {"protocolVersion": LEGACY_VERSIONS[0], "capabilities": {}, "clientInfo": CLIENT_INFO}
        reply = self._channel.request("initialize", offer, budget)
        version = reply.result.get("protocolVersion") if isinstance(reply.result, dict) else None
        if version not in LEGACY_VERSIONS:
            known = ", ".join(LEGACY_VERSIONS)
            where = self._channel.config.where
            raise trouble(
                "protocol_error", f"{where} answered initialize with version {version!r}; this client knows {known}"
            )
        session = Session(reply.headers.get(SESSION_HEADER, ""), version)
        self._channel.notify("notifications/initialized", {}, budget, headers=session.headers())
        return session


def is_session_loss(error: Trouble, session: Session) -> bool:
    """Servers say it in two ways: 404, or 400 with a sentence about the session."""
    if not session.id:
        return False
    if error.status == 404:
        return True
    return error.status == 400 and error.code is not None and "session" in error.failed.message.lower()
