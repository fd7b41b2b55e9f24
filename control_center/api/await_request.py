"""A connection must come to the point: the head of a request arrives within HEAD_SECONDS, or the connection is answered and
closed. Uvicorn itself would wait for ever, and sockets that only ever begin a request are how a server runs out of them.

It leans on two names of uvicorn's h11 protocol (`conn`, `transport`); tests/integration/test_api.py says what must hold.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from control_center.api.problems import Problem

HEAD_SECONDS = 15.0


class ImpatientProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1, with a deadline for the head of each request."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait_for_head()
        else:
            self._forget()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            return
        answer: Any = Problem("request-timeout", f"the request did not arrive within {HEAD_SECONDS:g} s").response()
        head = (
            f"HTTP/1.1 408 Request Timeout\r\ncontent-type: {answer.media_type}\r\ncontent-length: {len(answer.body)}"
        )
        self.transport.write(f"{head}\r\nconnection: close\r\n\r\n".encode() + answer.body)
        self.transport.close()
