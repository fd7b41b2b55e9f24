"""Lets the embedded servers, which listen on unix sockets only, be reached over TCP: by another account or host."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from persistence.settings import Settings


@contextmanager
def over_tcp(settings: Settings, host: str = "127.0.0.1") -> Iterator[dict[str, str]]:
    """DATABASE_URL and REDIS_URL with which `host` reaches the same servers while the block lasts."""
    database = conninfo_to_dict(settings.database_url)
    postgres = f"{database['host']}/.s.PGSQL.{database['port']}"
    with _relay(postgres, host) as postgres_port, _relay(urlsplit(settings.redis_url).path, host) as redis_port:
        yield {
            "DATABASE_URL": make_conninfo(settings.database_url, host=host, port=postgres_port),
            "REDIS_URL": f"redis://{host}:{redis_port}/0",
        }


@contextmanager
def _relay(path: str, host: str) -> Iterator[int]:
    class Pass(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(path)
                back = threading.Thread(target=_pump, args=(server, self.request), daemon=True)
                back.start()
                _pump(self.request, server)
                back.join()

    with _Relay((host, 0), Pass) as relay:
        threading.Thread(target=relay.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield relay.server_address[1]
        finally:
            relay.shutdown()


class _Relay(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Until one of them ends; then the other one hears of it."""
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
