"""One configured server as the client holds it: its channel, its era once that is known, and how many calls it may
have.

Three kinds: an HTTP server is only an address; a command is started on first use and again after it died; `builtin` is
part of this process (builtin.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol

from workers.mcp_client.bare import Bare
from workers.mcp_client.budget import Budget, CallCancelled, DeadlinePassed
from workers.mcp_client.detect import detect
from workers.mcp_client.eras import Era
from workers.mcp_client.failures import (
    HEADER_MISMATCH,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    UNSUPPORTED_VERSION,
    Trouble,
    trouble,
)
from workers.mcp_client.flight import Flight
from workers.mcp_client.http_channel import HttpChannel
from workers.mcp_client.launch import Launcher
from workers.mcp_client.legacy import Legacy
from workers.mcp_client.servers import ServerConfig
from workers.mcp_client.stdio_channel import StdioChannel

_GOODBYE_SECONDS = 1.0
_OTHER_ERA_CODES = frozenset({UNSUPPORTED_VERSION, METHOD_NOT_FOUND, HEADER_MISMATCH, INVALID_REQUEST})
_OTHER_ERA_STATUS = frozenset({400, 404, 405, 406})


class Peer(Protocol):
    """A server to talk to. `use` raises Trouble, DeadlinePassed or CallCancelled, also from inside its block."""

    def use(self, budget: Budget) -> Any:
        """A context manager that gives the server's Era."""
        ...

    def begin_close(self) -> None: ...

    def end_close(self) -> None: ...


class _Places:
    """How many calls may be in flight at one server."""

    def __init__(self, most: int | None) -> None:
        self._semaphore = threading.BoundedSemaphore(most) if most else None

    @contextmanager
    def one(self, budget: Budget) -> Iterator[None]:
        if self._semaphore is None:
            yield
            return
        with budget.holding(self._semaphore):
            yield


class HttpPeer:
    """A server behind a URL."""

    def __init__(self, channel: HttpChannel) -> None:
        self.channel = channel
        self._places = _Places(channel.config.max_inflight)
        self._era: Flight[Era] = Flight()

    def use(self, budget: Budget) -> AbstractContextManager[Era]:
        use = _Use(self.channel, self._era, budget)
        return self._in_its_place(use, budget) if self.channel.config.max_inflight else use

    @contextmanager
    def _in_its_place(self, use: _Use, budget: Budget) -> Iterator[Era]:
        with self._places.one(budget), use as era:
            yield era

    def begin_close(self) -> None:
        """Tell a server that keeps a session that it is over; whether it listens does not matter."""
        era = self._era.peek()
        headers = era.session_headers() if isinstance(era, Legacy) else {}
        if headers:
            with suppress(Trouble, DeadlinePassed, CallCancelled):
                self.channel.fetch("DELETE", self.channel.config.url, Budget(_GOODBYE_SECONDS), headers=headers)

    def end_close(self) -> None:
        """The connections belong to the client."""


class _Use(AbstractContextManager[Era]):
    """One use of an HTTP server's era, which is forgotten when the server's answer fits another one better."""

    __slots__ = ("_budget", "_channel", "_era", "_flight")

    def __init__(self, channel: HttpChannel, flight: Flight[Era], budget: Budget) -> None:
        self._channel, self._flight, self._budget = channel, flight, budget

    def __enter__(self) -> Era:
        self._era = self._flight.get(lambda: detect(self._channel, self._budget), self._budget)
        return self._era

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Trouble) and _may_be_another_era(error, self._era):
            self._flight.forget(self._era)


class StdioPeer:
    """A server that this process starts itself."""

    def __init__(self, config: ServerConfig, launcher: Callable[[], Launcher]) -> None:
        self._config = config
        self._launcher = launcher
        self._places = _Places(config.max_inflight)
        self._running: Flight[tuple[StdioChannel, Era]] = Flight()
        self._channels: list[StdioChannel] = []
        self._closed = False

    @contextmanager
    def use(self, budget: Budget) -> Iterator[Era]:
        with self._places.one(budget):
            present = self._running.peek()
            dead = present if present is not None and not present[0].alive else None
            _, era = self._running.get(lambda: self._start(budget), budget, unwanted=dead)
            yield era

    def begin_close(self) -> None:
        self._closed = True
        for channel in self._channels:
            channel.end()

    def end_close(self) -> None:
        for channel in self._channels:
            channel.join()

    def _start(self, budget: Budget) -> tuple[StdioChannel, Era]:
        """A living child whose era is known. One that is alive but could not yet say its era (slow start) is kept."""
        self._channels = [channel for channel in self._channels if channel.alive]
        if not self._channels:
            self._channels.append(StdioChannel.open(self._config, self._launcher(), budget))
        channel = self._channels[-1]
        if self._closed:  # close() came while the child was started, and may not have seen it
            channel.end()
            raise trouble("transport", "the client is closed", "not_executed")
        try:
            return channel, detect(channel, budget)
        except Trouble as error:
            if channel.alive:
                raise
            raise trouble("server_start_failed", error.failed.message, "not_executed") from error


def _may_be_another_era(error: Trouble, era: Era) -> bool:
    """Whether the answer looks as if the server now speaks another era (it was replaced by another version)."""
    if isinstance(era, Bare) and error.code == METHOD_NOT_FOUND:
        return False  # how these servers say "no such tool"
    return error.code in _OTHER_ERA_CODES or error.status in _OTHER_ERA_STATUS
