"""One HTTP/1.1 request and its answer, at the least cost that a plain answer allows.

A connection is used again only if its answer was read to the end and nothing more came. Nothing is ever sent twice, no
redirect is followed, no cookie is kept, no proxy is asked.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import httpx

from workers.mcp_client.any_answer import any_answer
from workers.mcp_client.budget import Budget
from workers.mcp_client.call import CLIENT_INFO
from workers.mcp_client.connections import Connections
from workers.mcp_client.interruptible import Origin
from workers.mcp_client.plain_answer import Answer, plain_answer

_ALWAYS = {
    "accept": "*/*",
    "accept-encoding": "identity",
    "connection": "keep-alive",
    "user-agent": "{name}/{version}".format(**CLIENT_INFO),
}
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_NOT_IN_NAMES = re.compile(r"[^!#$%&'*+.^_`|~0-9A-Za-z-]")
_NOT_IN_VALUES = re.compile(r"[^\t\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class _Place:
    """A URL as a request needs it."""

    origin: Origin
    target: str
    authority: str


@lru_cache(maxsize=256)
def _place(url: str) -> _Place:
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise httpx.UnsupportedProtocol(f"{parsed.scheme or 'a URL without scheme'}:// is not http:// or https://")
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    origin = Origin(parsed.scheme, parsed.raw_host.decode("ascii"), port)
    return _Place(origin, parsed.raw_path.decode("ascii"), parsed.netloc.decode("ascii"))


class Http:
    """All HTTP of one process; any number of threads may use it at once."""

    def __init__(self, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["http/1.1"])
        self._connections = Connections(context)

    def exchange(
        self, verb: str, url: str, budget: Budget, headers: Mapping[str, str], content: bytes = b""
    ) -> _Exchange:
        """A context manager that sends the request and gives the Answer, its body unread. Names of headers are lower
        case. Raises httpx.HTTPError, DeadlinePassed or CallCancelled, reading the body too."""
        place = _place(url)
        request = _head(verb, place, headers, len(content)) + content
        return _Exchange(self._connections, verb, place.origin, request, budget)

    def close(self) -> None:
        self._connections.close()


class _Exchange:
    """One request on one connection. (A class, because a generator would cost each call as much as its headers.)"""

    __slots__ = ("_answer", "_budget", "_connection", "_connections", "_origin", "_request", "_verb")

    def __init__(self, connections: Connections, verb: str, origin: Origin, request: bytes, budget: Budget) -> None:
        self._connections = connections
        self._verb = verb
        self._origin = origin
        self._request = request
        self._budget = budget

    def __enter__(self) -> Answer:
        self._connection = connection = self._connections.take(self._origin, self._budget)
        try:
            with suppress(httpx.WriteError):  # a server may refuse before it has read all, and say why
                connection.send(self._request)
            received = connection.receive()
            self._answer = plain_answer(connection, received) or any_answer(connection, self._verb, received)
        except BaseException:
            connection.close()
            raise
        return self._answer

    def __exit__(self, *_: object) -> None:
        if self._answer.connection_is_free:
            self._connections.give_back(self._connection)
        else:
            self._connection.close()


def _head(verb: str, place: _Place, headers: Mapping[str, str], length: int) -> bytes:
    """Raises httpx.LocalProtocolError for a header that could end its line or change where the request ends."""
    sent = {"host": place.authority, **_ALWAYS, **headers}
    if (
        "" in sent
        or _NOT_IN_NAMES.search("".join(sent))
        or _NOT_IN_VALUES.search("".join(sent.values()))
        or _FRAMING & sent.keys()
    ):
        raise httpx.LocalProtocolError("a header has a name or a value that cannot be sent")
    if length or verb == "POST":
        sent["content-length"] = str(length)
    lines = "".join([f"{name}: {value}\r\n" for name, value in sent.items()])
    return f"{verb} {place.target} HTTP/1.1\r\n{lines}\r\n".encode("ascii")
