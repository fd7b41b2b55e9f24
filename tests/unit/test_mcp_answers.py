"""HTTP answers: what is read the cheap way is read as h11 reads it, and what is not plain is left to h11."""

from __future__ import annotations

import gzip
from typing import Any

import httpx
import pytest

from workers.mcp_client.any_answer import any_answer
from workers.mcp_client.exchange import _head, _place
from workers.mcp_client.plain_answer import Answer, plain_answer


class Arriving:
    """A connection from which these pieces come, then its end."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def receive(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


def answer(*pieces: bytes) -> Answer:
    """As exchange.py reads it."""
    connection: Any = Arriving(*pieces)
    received = connection.receive()
    return plain_answer(connection, received) or any_answer(connection, "POST", received)


def plain(*pieces: bytes) -> Answer | None:
    connection: Any = Arriving(*pieces)
    return plain_answer(connection, connection.receive())


def by_h11(*pieces: bytes) -> Answer:
    connection: Any = Arriving(*pieces)
    return any_answer(connection, "POST", connection.receive())


def told(found: Answer) -> tuple[int, dict[str, str], bytes, bool]:
    """Everything the client looks at."""
    return found.status_code, dict(found.headers), b"".join(found.iter_bytes()), found.connection_is_free


PLAIN = [
    (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",),
    (b"HTTP/1.1 200\r\nContent-Length:2\r\nX-A: \t b c \t\r\nEmpty:\r\n\r\n", b"{", b"}"),
    (b"HTTP/1.1 202 Accepted\r\nConnection: Keep-Alive\r\nKeep-Alive: timeout=5\r\ncontent-length: 0\r\n\r\n",),
    (b"HTTP/1.1 503 Wait a bit\r\nretry-after: 7\r\ncontent-length: 0004\r\n\r\nwait",),
    (b"HTTP/1.1 400 \r\ncontent-encoding: identity\r\ncontent-length: 1\r\n\r\nx",),
]


@pytest.mark.parametrize("pieces", PLAIN)
def test_a_plain_answer_is_read_as_h11_reads_it(pieces: tuple[bytes, ...]) -> None:
    """Status, headers, body, and whether the connection can be used again."""
    cheap = plain(*pieces)
    assert cheap is not None
    assert told(cheap) == told(by_h11(*pieces))
    assert cheap.connection_is_free


NOT_PLAIN = [
    b"HTTP/1.1 200 OK\r\ncontent-le",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 100 Continue\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: " + b"1" * 30 + b"\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nx: \xff\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nx: a\0\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{} and more",
    b"HTTP/2 200\r\ncontent-length: 2\r\n\r\n{}",
    b"{}",
]


@pytest.mark.parametrize("received", NOT_PLAIN)
def test_what_is_not_plain_is_left_alone(received: bytes) -> None:
    """Doubt costs a fraction of a millisecond, a wrong guess an answer."""
    assert plain(received) is None


def test_any_other_answer_is_read_too() -> None:
    """Chunks, early hints before the answer, a body that ends with the connection, a coded body nobody asked for."""
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    packed = gzip.compress(b"{}")
    coded = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (len(packed), packed)
    for received in (chunked, hints, coded):
        assert told(answer(received))[2:] == (b"{}", True)
        assert told(answer(*(received[i : i + 1] for i in range(len(received)))))[2:] == (b"{}", True)
    assert told(answer(b"HTTP/1.1 200 OK\r\n\r\n", b"{", b"}"))[2:] == (b"{}", False)


def test_a_connection_with_more_on_it_is_not_used_again() -> None:
    """Whatever follows an answer unasked would be taken for the answer to the next request."""
    first = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
    for pieces in ((first + b"{}HTTP/1.1 200 OK\r\n",), (first, b"{}HTTP/1.1 200 OK\r\n"), (first + b"{", b"}\r\n")):
        status, _, body, free = told(answer(*pieces))
        assert (status, body, free) == (200, b"{}", False)


def test_an_unread_body_keeps_the_connection() -> None:
    """It is not free before its answer was read to the end."""
    found = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{", b"}")
    assert not found.connection_is_free
    assert b"".join(found.iter_bytes()) == b"{}"
    assert found.connection_is_free


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"HTTP/1.1 200 OK\r\ncontent-le",),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}",),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}",),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000,),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n",),
    ],
)
def test_an_answer_that_is_cut_or_malformed_is_an_error(pieces: tuple[bytes, ...]) -> None:
    """Never a shorter body than the server meant."""
    with pytest.raises(httpx.RemoteProtocolError):
        told(answer(*pieces))


def test_a_server_that_says_nothing_is_said_to_have_said_nothing() -> None:
    """The message is what an operator reads."""
    with pytest.raises(httpx.RemoteProtocolError, match="disconnected without sending a response"):
        answer()


def test_a_request_ends_where_it_says() -> None:
    """Its host is the URL's without a port that goes without saying; a server's own header replaces the usual one."""
    head = _head("POST", _place("https://mcp.example.org:8443/a b?c=ü#d"), {"accept": "x/y"}, 3)
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /a%20b?c=%C3%BC HTTP/1.1"
    assert lines[-3:] == ["content-length: 3", "", ""]
    assert "accept: x/y" in lines
    assert lines[1] == "host: mcp.example.org:8443"
    assert b"\r\nhost: [::1]\r\n" in _head("GET", _place("http://[::1]:80/"), {}, 0)


@pytest.mark.parametrize(
    "headers",
    [
        {"x": "a\r\nevil: 1"},
        {"x": "a\nb"},
        {"x\r\nevil": "1"},
        {"x y": "1"},
        {"": "1"},
        {"x": "\u2028"},
        {"x": "a\0"},
        {"content-length": "0"},
        {"transfer-encoding": "chunked"},
    ],
)
def test_no_header_can_end_its_line_or_the_request(headers: dict[str, str]) -> None:
    """Neither a new header nor another request can be smuggled in."""
    with pytest.raises(httpx.LocalProtocolError):
        _head("POST", _place("http://127.0.0.1/mcp"), headers, 3)
