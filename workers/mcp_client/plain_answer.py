"""The plain kind of HTTP answer, which nearly all are: a complete head in the first bytes, then a body of known length.

It is recognised strictly; whatever is not exactly that is left to h11 (any_answer.py), which has read nothing yet. So
this file decides what is cheap, never what is right: both read a plain answer alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Protocol

import httpx

from workers.mcp_client.budget import Budget
from workers.mcp_client.interruptible import Connection

_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [\t\x20-\x7e]*)?\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*\r\n)+)\r\n"
)
_WITHOUT_BODY = (204, 304)
_MOST_DIGITS = 15


class Answer(Protocol):
    """An HTTP answer whose body is still to be read."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Found by their names in lower case."""
        ...

    @property
    def connection_is_free(self) -> bool:
        """Whether the answer was read to its end and the connection can serve another request."""
        ...

    def iter_bytes(self) -> Iterator[bytes]:
        """The body as it arrives. Raises httpx.HTTPError if it is cut, DeadlinePassed, CallCancelled."""
        ...

    def obey(self, budget: Budget) -> None:
        """Read what is left of the body within this budget."""
        ...


class PlainAnswer:
    """An Answer whose length is known."""

    def __init__(
        self, connection: Connection, status: int, headers: Mapping[str, str], begun: bytes, length: int
    ) -> None:
        self.status_code = status
        self.headers = headers
        self._connection = connection
        self._begun = begun
        self._length = length
        self._left = length - len(begun)

    @property
    def connection_is_free(self) -> bool:
        return self._left == 0

    def obey(self, budget: Budget) -> None:
        self._connection.budget = budget

    def iter_bytes(self) -> Iterator[bytes]:
        if self._begun:
            yield self._begun
        while self._left > 0:
            piece = self._connection.receive()
            if not piece:
                got = self._length - self._left
                raise httpx.RemoteProtocolError(f"the server closed the connection after {got} of {self._length} bytes")
            self._left -= len(piece)
            yield piece if self._left >= 0 else piece[: self._left]


def plain_answer(connection: Connection, received: bytes) -> PlainAnswer | None:
    """The answer that begins with these bytes; None if it is not plain."""
    found = _HEAD.match(received)
    if found is None:
        return None
    lines = found[2].decode("ascii").split("\r\n")
    headers = {}
    for line in lines[:-1]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    status, length = int(found[1]), headers.get("content-length", "")
    if (
        len(headers) != len(lines) - 1  # a name twice
        or not length.isdigit()
        or len(length) > _MOST_DIGITS
        or status in _WITHOUT_BODY
        or "transfer-encoding" in headers
        or headers.get("content-encoding", "identity") != "identity"
        or headers.get("connection", "keep-alive").lower() != "keep-alive"
        or len(received) - found.end() > int(length)
    ):
        return None
    return PlainAnswer(connection, status, headers, received[found.end() :], int(length))
