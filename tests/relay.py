"""Lets the embedded servers, which listen on unix sockets only, be reached over TCP: by another account or host."""

from __future__ import annotations

import ctypes
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from persistence.settings import Settings

CLONE_NEWNET = 0x40000000


@contextmanager
def over_tcp(settings: Settings, host: str = "127.0.0.1", namespace: str = "") -> Iterator[dict[str, str]]:
    """DATABASE_URL and REDIS_URL by which the same servers are reached at `host` while the block lasts. `namespace`: the
    network namespace that has this address, another one than ours."""
    database = conninfo_to_dict(settings.database_url)
    postgres, redis = f"{database['host']}/.s.PGSQL.{database['port']}", urlsplit(settings.redis_url).path
    with _relay(postgres, host, namespace) as first, _relay(redis, host, namespace) as second:
        yield {
            "DATABASE_URL": make_conninfo(settings.database_url, host=host, port=first),
            "REDIS_URL": f"redis://{host}:{second}/0",
        }


@contextmanager
def _relay(path: str, host: str, namespace: str) -> Iterator[int]:
    class Pass(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(path)
                back = threading.Thread(target=_pump, args=(server, self.request), daemon=True)
                back.start()
                _pump(self.request, server)
                back.join()

    with _made_in(namespace, lambda: _Relay((host, 0), Pass)) as relay:
        threading.Thread(target=relay.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield relay.server_address[1]
        finally:
            relay.shutdown()


class _Relay(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


def _made_in(namespace: str, make: Callable[[], _Relay]) -> _Relay:
    """What a thread makes that has entered the network namespace: a socket belongs to the one that it was made in."""
    made: list[_Relay] = []

    def enter_and_make() -> None:
        if namespace:
            with open(f"/run/netns/{namespace}") as file:
                assert ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) == 0, ctypes.get_errno()
        made.append(make())

    maker = threading.Thread(target=enter_and_make)
    maker.start()
    maker.join()
    return made[0]


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Until one of them ends; then the other one hears of it."""
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
