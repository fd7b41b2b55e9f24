"""TCP and TLS streams under httpx that obey the budget of the call instead of one timeout per read.

httpx cannot stop a blocked read from another thread, and its read timeout starts anew with every byte. These streams
wait in slices, so the wall-clock deadline and a cancellation hold while connecting, in the handshake and while
reading. Name resolution is the one wait the operating system does not let us cut.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

from workers.mcp_client.budget import Budget, DeadlinePassed, current_budget

_WRITE_PIECE = 65536
_UNBUDGETED_SECONDS = 30.0


def _budget(timeout: float | None) -> Budget:
    """The calling thread's budget; outside a call (closing the pool) a plain timeout."""
    return current_budget.get() or Budget(timeout if timeout is not None else _UNBUDGETED_SECONDS)


class InterruptibleStream(httpcore.NetworkStream):
    """One connection. A wait that times out loses no data: the socket is only asked again."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        budget = _budget(timeout)
        while True:
            self._sock.settimeout(budget.slice())
            try:
                return self._sock.recv(max_bytes)
            except TimeoutError:
                continue
            except OSError as error:
                raise httpcore.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        budget = _budget(timeout)
        rest = memoryview(buffer)
        while rest:
            self._sock.settimeout(budget.slice())
            try:
                rest = rest[self._sock.send(rest[:_WRITE_PIECE]) :]
            except TimeoutError:
                continue
            except OSError as error:
                raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        budget = _budget(timeout)
        try:
            budget = budget.part(budget.connect_timeout)
            secure = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname, do_handshake_on_connect=False)
            self._sock = secure  # the plain socket is an empty shell now: close() must end this one
            while True:
                secure.settimeout(budget.slice())
                try:
                    secure.do_handshake()
                    return InterruptibleStream(secure)
                except TimeoutError:
                    continue
        except OSError as error:  # ssl.SSLError is one
            self.close()
            raise httpcore.ConnectError(str(error)) from error
        except DeadlinePassed as error:
            self.close()
            raise httpcore.ConnectTimeout("the TLS handshake took too long") from error
        except BaseException:
            self.close()
            raise

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked before a kept connection is used again: readable when idle means closed
            return bool(self._poll(select.POLLIN, 0))
        if info == "socket":
            return self._sock
        if info == "ssl_object":
            return self._sock if isinstance(self._sock, ssl.SSLSocket) else None
        return None

    def _poll(self, wanted: int, seconds: float) -> bool:
        poller = select.poll()
        try:
            poller.register(self._sock, wanted)
        except (OSError, ValueError):  # closed meanwhile
            return True
        return bool(poller.poll(seconds * 1000))

    def finish_connect(self, budget: Budget) -> None:
        """Wait for a connect in progress. Raises OSError as connect() would have."""
        while not self._poll(select.POLLOUT, budget.slice()):
            pass
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code).lower())


class InterruptibleBackend(httpcore.NetworkBackend):
    """Opens InterruptibleStreams, trying each address of a name in turn."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        budget = _budget(timeout)
        problem: OSError = OSError(f"{host} has no address")
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"cannot resolve {host}: {error}") from error
        for family, kind, protocol, _, address in addresses:
            try:
                patience = budget.part(budget.connect_timeout)
                return _open(socket.socket(family, kind, protocol), address, patience, list(socket_options or ()))
            except OSError as error:
                problem = error
            except DeadlinePassed:
                problem = TimeoutError(f"no connection within {budget.connect_timeout:g} s")
        if isinstance(problem, TimeoutError):
            raise httpcore.ConnectTimeout(str(problem)) from problem
        raise httpcore.ConnectError(problem.strerror or str(problem)) from problem


def _open(sock: socket.socket, address: Any, budget: Budget, options: list[Any]) -> InterruptibleStream:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(False)
        stream = InterruptibleStream(sock)
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            stream.finish_connect(budget)
        elif code:
            raise OSError(code, os.strerror(code).lower())
        return stream
    except BaseException:
        sock.close()
        raise


def interruptible_transport(ssl_context: ssl.SSLContext) -> httpx.HTTPTransport:
    """httpx's own transport over a pool of interruptible connections.

    Connections idle for 2 s are not used again: common servers close theirs at 5 s, and the call that meets the closing
    would be lost with an unknown outcome. The pool has no size limit; each server's `max_inflight` is the limit.
    """
    transport = httpx.HTTPTransport(verify=ssl_context, trust_env=False)
    # httpx 0.28 has no public way to pass a network backend to its transport.
    transport._pool = httpcore.ConnectionPool(
        ssl_context=ssl_context,
        max_connections=None,
        max_keepalive_connections=64,
        keepalive_expiry=2.0,
        network_backend=InterruptibleBackend(),
    )
    return transport
