"""What stands at the other end of a client when things go wrong: a server that gives any bytes, a link that loses answers."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar
from urllib.parse import urlsplit

LAST = 10.0  # seconds that anything here may take


def http(status: str, content_type: str, content: bytes, *headers: str) -> bytes:
    """An answer, as bytes."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + content


class Peer:
    """Takes one request per connection and answers what `act` says; on None it goes down: it cuts the connection, and its
    port refuses until `come_back`."""

    def __init__(self, act: Callable[[bytes], bytes | None]):
        self._act = act
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ending = False
        self._back = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests: list[bytes] = []
        self.down = threading.Event()

    def serve(self) -> None:
        while not self._ending:
            connection, _ = self._listener.accept()
            with connection:
                request = _read(connection)
                if not request:
                    continue
                self.requests.append(request)
                answer = self._act(request)
                if answer is not None:
                    with suppress(OSError):
                        connection.sendall(answer)
                    continue
                self._listener.close()
            self.down.set()
            self._back.wait(LAST)
            self._listener = socket.create_server(("127.0.0.1", self.port))

    def come_back(self) -> None:
        self._back.set()

    def end(self) -> None:
        self._ending = True
        self.come_back()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()  # what accept() waits for


class Link(Peer):
    """Passes requests on to a server. The answer to the first request that begins with `losing` is lost: `lost`."""

    def __init__(self, url: str, losing: bytes):
        self._server = (urlsplit(url).hostname, urlsplit(url).port)
        self.losing = losing
        self.lost: list[bytes] = []
        super().__init__(self._pass_on)

    def _pass_on(self, request: bytes) -> bytes | None:
        single = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"\r\nConnection: close", request, count=1)
        with socket.create_connection(self._server, LAST) as server:
            server.sendall(single)
            answer = b"".join(iter(lambda: server.recv(65536), b""))
        if self.lost or not request.startswith(self.losing):
            return answer
        self.lost.append(answer)
        return None


def _read(connection: socket.socket) -> bytes:
    connection.settimeout(LAST)
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    while length and len(body) < int(length[1]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


P = TypeVar("P", bound=Peer)


@contextmanager
def serving(peer: P) -> Iterator[P]:
    """For as long as the `with` lasts."""
    thread = threading.Thread(target=peer.serve, name="peer", daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        peer.end()
        thread.join(LAST)
        peer._listener.close()


def scripted(*answers: bytes) -> Peer:
    """Gives these answers, one after the other; the last one again and again."""
    left: Sequence[bytes] = answers

    def act(_: bytes) -> bytes:
        nonlocal left
        first, left = left[0], left[1:] or left
        return first

    return Peer(act)
