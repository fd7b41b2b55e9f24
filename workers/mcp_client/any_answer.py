"""Every other kind of HTTP answer, read by h11 and decoded by httpx: chunks, event streams, bodies that end with their
connection, content encodings, early hints, whatever is malformed."""

from __future__ import annotations

from collections.abc import Iterator

import h11
import httpx

from workers.mcp_client.budget import Budget
from workers.mcp_client.interruptible import Connection

_MOST_HEAD_BYTES = 100 * 1024


class _Incoming(httpx.SyncByteStream):
    """The body of one answer as it comes from the connection."""

    def __init__(self, connection: Connection, verb: str, received: bytes) -> None:
        self.connection = connection
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD_BYTES)
        self._parser.send(h11.Request(method=verb, target="/", headers=[("host", "sent-already")]))
        self._parser.send(h11.EndOfMessage())
        self._feed(received)

    @property
    def is_over(self) -> bool:
        return self._parser.their_state is h11.DONE and self._parser.trailing_data == (b"", False)

    def head(self) -> h11.Response | h11.InformationalResponse:
        while True:
            event = self._next()
            if isinstance(event, h11.Response):
                return event
            if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                return event  # nobody asked for another protocol: it is no success

    def __iter__(self) -> Iterator[bytes]:
        while isinstance(event := self._next(), h11.Data):
            yield bytes(event.data)

    def _next(self) -> object:
        try:
            while (event := self._parser.next_event()) is h11.NEED_DATA:
                self._feed(self.connection.receive())
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        return event

    def _feed(self, data: bytes) -> None:
        if not data and self._parser.their_state is h11.SEND_RESPONSE:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        self._parser.receive_data(data)


class AnyAnswer(httpx.Response):
    """An Answer (plain_answer.py)."""

    def __init__(self, head: h11.Response | h11.InformationalResponse, incoming: _Incoming) -> None:
        super().__init__(head.status_code, headers=head.headers.raw_items(), stream=incoming)
        self._incoming = incoming

    @property
    def connection_is_free(self) -> bool:
        return self._incoming.is_over

    def obey(self, budget: Budget) -> None:
        self._incoming.connection.budget = budget


def any_answer(connection: Connection, verb: str, received: bytes) -> AnyAnswer:
    """The answer that begins with these bytes. Raises httpx.HTTPError."""
    incoming = _Incoming(connection, verb, received)
    return AnyAnswer(incoming.head(), incoming)
