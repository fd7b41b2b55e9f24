"""A TCP or TLS connection that obeys the budget of the call instead of one timeout per read.

No wait is longer than one slice, so the wall-clock deadline and a cancellation hold while connecting, in the handshake,
while sending and while reading. Most answers come within the first slice, and are waited for by the call that reads them;
every other wait is a poll. Name resolution is the one wait the operating system does not let us cut. Failures are httpx's
exceptions, which failures.py knows.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import struct
from contextlib import suppress
from typing import Any, NamedTuple

import httpx

from workers.mcp_client.at_once import is_quiet, send_at_once
from workers.mcp_client.budget import SLICE_SECONDS, Budget, DeadlinePassed

_READ_BYTES = 65536
_WRITE_PIECE = 65536
_SLICE = struct.pack("@ll", 0, round(SLICE_SECONDS * 1e6))  # a struct timeval
_WANTS_READ = (BlockingIOError, ssl.SSLWantReadError)


class Origin(NamedTuple):
    """Where connections go to: those to the same origin are interchangeable."""

    scheme: str
    host: str
    port: int


class Connection:
    """One open connection, used by one thread at a time, whose `budget` it obeys. A wait that is cut loses no data: the
    socket is asked again."""

    __slots__ = ("_readable", "_secure", "_sock", "budget", "idle_since", "origin")

    def __init__(self, origin: Origin, sock: socket.socket, budget: Budget) -> None:
        self.origin = origin
        self.budget = budget
        self.idle_since = 0.0  # time.monotonic()
        self._sock = sock
        self._secure = False
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)

    @classmethod
    def open(cls, origin: Origin, context: ssl.SSLContext, budget: Budget) -> Connection:
        """Tries each address of the name in turn. Raises httpx.ConnectError or ConnectTimeout."""
        problem: OSError = OSError(f"{origin.host} has no address")
        try:
            addresses = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"cannot resolve {origin.host}: {error}") from error
        for family, kind, protocol, _, address in addresses:
            try:
                patience = budget.part(budget.connect_timeout)
                connection = cls(origin, socket.socket(family, kind, protocol), patience)
                connection._connect(address)
            except OSError as error:
                problem = error
            except DeadlinePassed:
                problem = TimeoutError(f"no connection within {budget.connect_timeout:g} s")
            else:
                if origin.scheme == "https":
                    connection._start_tls(context, budget)
                else:
                    connection._wait_itself()
                connection.budget = budget
                return connection
        if isinstance(problem, TimeoutError):
            raise httpx.ConnectTimeout(str(problem)) from problem
        raise httpx.ConnectError(problem.strerror or str(problem)) from problem

    def send(self, data: bytes) -> None:
        """Raises httpx.WriteError."""
        self.budget.check()
        flags = 0 if self._secure else socket.MSG_DONTWAIT
        rest = memoryview(data)
        if not self._secure and len(data) <= _WRITE_PIECE:
            rest = rest[send_at_once(self._sock, data) :]
        while rest:
            try:
                rest = rest[self._sock.send(rest[:_WRITE_PIECE], flags) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            except OSError as error:
                raise httpx.WriteError(str(error)) from error

    def receive(self) -> bytes:
        """What has come, as soon as something has; empty at the end of the stream. Raises httpx.ReadError."""
        if self._secure:  # it may hold bytes that the socket no longer shows: ask it before waiting
            self.budget.check()
        elif self.budget.slice() < SLICE_SECONDS:  # the socket itself would wait longer
            self._wait(select.POLLIN)
        while True:
            try:
                return self._sock.recv(_READ_BYTES)
            except _WANTS_READ:
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)
            except OSError as error:
                raise httpx.ReadError(str(error)) from error

    def is_quiet(self) -> bool:
        """Whether nothing has come while nothing was asked: a connection that is readable when idle was closed."""
        return is_quiet(self._sock)

    def close(self) -> None:
        with suppress(OSError):
            self._sock.close()

    def _connect(self, address: Any) -> None:
        """Raises OSError as a blocking connect() would."""
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sock.setblocking(False)
            code = self._sock.connect_ex(address)
            if code == errno.EINPROGRESS:
                self._wait(select.POLLOUT)
                code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code).lower())
        except BaseException:
            self.close()
            raise

    def _wait_itself(self) -> None:
        """From now on the socket waits for a slice before it says that nothing has come."""
        self._sock.setblocking(True)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _SLICE)

    def _start_tls(self, context: ssl.SSLContext, budget: Budget) -> None:
        """Raises httpx.ConnectError or ConnectTimeout."""
        try:
            self.budget = budget.part(budget.connect_timeout)
            self._sock = secure = context.wrap_socket(
                self._sock, server_hostname=self.origin.host, do_handshake_on_connect=False
            )
            self._secure = True
            while True:
                try:
                    return secure.do_handshake()
                except ssl.SSLWantReadError:
                    self._wait(select.POLLIN)
                except ssl.SSLWantWriteError:
                    self._wait(select.POLLOUT)
        except OSError as error:  # ssl.SSLError is one
            self.close()
            raise httpx.ConnectError(str(error)) from error
        except DeadlinePassed as error:
            self.close()
            raise httpx.ConnectTimeout("the TLS handshake took too long") from error
        except BaseException:
            self.close()
            raise

    def _wait(self, wanted: int) -> None:
        """Until the socket can be read from or written to. Raises DeadlinePassed or CallCancelled."""
        poller = self._readable
        if wanted == select.POLLOUT:
            poller = select.poll()
            poller.register(self._sock, wanted)
        while not poller.poll(self.budget.slice() * 1000):
            pass
