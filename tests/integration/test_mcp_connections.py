"""Open connections: the last one used is taken first, none outlives its use for long, each belongs to one call."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.outcome import Cancelled, Failed, Succeeded
from tests.integration.mcp_fault_server import FaultServer, fault_server
from workers.mcp_client import McpClient, ServerConfig
from workers.mcp_client.budget import Budget, CallCancelled, DeadlinePassed
from workers.mcp_client.connections import IDLE_SECONDS, MOST_IDLE, Connections
from workers.mcp_client.interruptible import Connection, Origin


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with fault_server("bare") as running:
        yield running


@pytest.fixture
def client(server: FaultServer) -> Iterator[McpClient]:
    with McpClient({"s": ServerConfig("s", url=server.url, timeout=10, protocol="jsonrpc")}) as client:
        yield client


@pytest.fixture
def origin() -> Iterator[Origin]:
    """Something that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        yield Origin("http", "127.0.0.1", listener.getsockname()[1])


@pytest.fixture
def connections() -> Iterator[Connections]:
    kept = Connections(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    yield kept
    kept.close()


Take = Callable[..., list[Connection]]


@pytest.fixture
def take(connections: Connections, origin: Origin) -> Iterator[Take]:
    """Takes so many at once; all are closed in the end."""
    held: list[Connection] = []

    def some(count: int, place: Origin = origin) -> list[Connection]:
        found = [connections.take(place, Budget(5)) for _ in range(count)]
        held.extend(found)
        return found

    yield some
    for connection in held:
        connection.close()


def is_open(connection: Connection) -> bool:
    return connection._sock.fileno() >= 0


def at_once(client: McpClient, server: FaultServer, count: int) -> list[Any]:
    """What `count` calls that are under way at the same time bring."""
    found: list[Any] = []
    seen = len(server.seen)
    threads = [threading.Thread(target=lambda: found.append(client.call("s", "waits", {}))) for _ in range(count)]
    for thread in threads:
        thread.start()
    server.wait_for(lambda _: len(server.seen) == seen + count)
    server.released.set()
    for thread in threads:
        thread.join(10)
    return found


def test_many_threads_share_as_many_connections_as_they_need(server: FaultServer, client: McpClient) -> None:
    """A second wave of calls at the same time opens no connection; calls one after another need one."""
    assert at_once(client, server, 40) == [Succeeded("ok")] * 40
    first = {entry.port for entry in server.seen}
    assert len(first) == 40
    server.released.clear()
    assert at_once(client, server, 40) == [Succeeded("ok")] * 40
    assert {entry.port for entry in server.seen} == first
    server.seen.clear()
    for _ in range(5):
        assert client.call("s", "ok", {}) == Succeeded({})
    assert len({entry.port for entry in server.seen}) == 1


def test_the_last_one_used_is_taken_first(connections: Connections, take: Take) -> None:
    """So the others grow old when there is less to do."""
    first, second, third = take(3)
    for connection in (second, third, first):
        connections.give_back(connection)
    assert take(3) == [first, third, second]


@pytest.mark.parametrize("cancel", [False, True])
def test_sending_ends_in_time_though_the_server_takes_a_little_now_and_then(cancel: bool) -> None:
    """At the deadline, or soon after a cancellation: each piece that leaves is no new lease of time."""
    over, cancelled = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def sip() -> None:
            accepted, _ = listener.accept()
            with accepted:
                while not over.wait(0.01) and accepted.recv(100_000):
                    if cancel:
                        cancelled.set()

        thread = threading.Thread(target=sip)
        thread.start()
        budget = Budget(20 if cancel else 0.5, cancelled=cancelled)
        connection = Connection.open(
            Origin("http", "127.0.0.1", listener.getsockname()[1]), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), budget
        )
        began = time.monotonic()
        with pytest.raises(CallCancelled if cancel else DeadlinePassed):
            connection.send(bytes(200_000_000))
        assert time.monotonic() - began < 5
        over.set()
        connection.close()
        thread.join(10)


def test_each_origin_has_its_own(connections: Connections, take: Take) -> None:
    """A connection to one server never carries a request to another."""
    connections.give_back(*take(1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = Origin("http", "127.0.0.1", listener.getsockname()[1])
        assert take(1, other)[0].origin == other


def test_what_has_been_idle_is_not_used_again(connections: Connections, take: Take) -> None:
    """Its server may be closing it at this moment."""
    (old,) = take(1)
    connections.give_back(old)
    old.idle_since -= IDLE_SECONDS
    assert take(1) != [old]
    assert not is_open(old)


def test_what_has_been_idle_is_closed(connections: Connections, take: Take) -> None:
    """Also if nobody asks for it: whatever is given back next takes along all that grew old."""
    new, old, older = take(3)
    for connection in (older, old):
        connections.give_back(connection)
        connection.idle_since -= IDLE_SECONDS
    connections._next_sweep = 0.0
    connections.give_back(new)
    assert [is_open(connection) for connection in (new, old, older)] == [True, False, False]


def test_the_number_that_is_kept_is_bounded(
    connections: Connections, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was idle longest makes room."""
    assert MOST_IDLE == 512
    monkeypatch.setattr("workers.mcp_client.connections.MOST_IDLE", 2)
    held = take(3)
    for connection in held:
        connections.give_back(connection)
    assert [is_open(connection) for connection in held] == [False, True, True]


def test_closing_leaves_nothing_open(connections: Connections, take: Take) -> None:
    """Neither what is idle nor what comes back later."""
    used, idle = take(2)
    connections.give_back(idle)
    connections.close()
    assert not is_open(idle)
    assert is_open(used)
    connections.give_back(used)
    assert not is_open(used)


def test_a_client_that_is_closed_leaves_nothing_open(server: FaultServer, client: McpClient) -> None:
    """Its sockets are closed, not left to the garbage collector."""
    client.call("s", "ok", {})
    assert client._http is not None
    (kept,) = [connection for idle in client._http._connections._idle.values() for connection in idle]
    assert is_open(kept)
    client.close()
    assert not is_open(kept)


def test_cancelling_a_call_closes_its_own_connection_only(server: FaultServer, client: McpClient) -> None:
    """Another call that waits on the same server gets its answer on the connection it has."""
    cancelled = threading.Event()
    found: list[Any] = []
    ends = threading.Thread(target=lambda: found.append(client.call("s", "hang", {}, cancelled=cancelled)))
    stays = threading.Thread(target=lambda: found.append(client.call("s", "waits", {})))
    ends.start()
    stays.start()
    server.wait_for(lambda _: len(server.seen) == 2)
    cancelled.set()
    ends.join(5)
    server.released.set()
    stays.join(5)
    assert isinstance(found[0], Cancelled)
    assert found[1] == Succeeded("ok")
    used = {entry.message["params"]["name"]: entry.port for entry in server.seen}
    assert client.call("s", "ok", {}) == Succeeded({})
    assert server.seen[-1].port == used["waits"]


def test_a_request_is_sent_once(server: FaultServer, client: McpClient) -> None:
    """A kept connection that breaks under a request leaves its outcome unknown; only the next call opens another."""
    client.call("s", "ok", {})
    outcome = client.call("s", "reset", {})
    assert isinstance(outcome, Failed)
    assert outcome.failure == "unknown"
    assert [entry.port for entry in server.seen] == [server.seen[0].port] * 2
    assert client.call("s", "ok", {}) == Succeeded({})
    assert server.executed == ["ok", "reset", "ok"]


def test_a_kept_connection_obeys_the_call_that_uses_it(connections: Connections, origin: Origin, take: Take) -> None:
    """Not the one it was opened for."""
    connections.give_back(*take(1))
    cancelled = threading.Event()
    cancelled.set()
    again = connections.take(origin, Budget(5, cancelled=cancelled))
    with pytest.raises(CallCancelled):
        again.receive()
