"""System calls that cannot wait: what they answer, and that no other thread runs meanwhile."""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from workers.mcp_client.at_once import is_quiet, send_at_once


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
    with here, there:
        yield here, there


Pair = tuple[socket.socket, socket.socket]


def test_what_is_sent_arrives(pair: Pair) -> None:
    """As it is, zeros too."""
    here, there = pair
    assert send_at_once(here, b"one\0two") == 7
    assert there.recv(100) == b"one\0two"


def test_a_full_socket_takes_a_part_and_then_nothing(pair: Pair) -> None:
    """Without a wait, though the socket would wait."""
    here, there = pair
    taken = []
    while not taken or taken[-1] > 0:
        taken.append(send_at_once(here, b"x" * 100_000))
    assert taken[-1] == 0 < sum(taken) < 100_000 * len(taken)
    here.shutdown(socket.SHUT_WR)
    assert sum(len(piece) for piece in iter(lambda: there.recv(1_000_000), b"")) == sum(taken)


def test_a_broken_socket_takes_nothing(pair: Pair) -> None:
    """Whether the other end reset it or this one is closed; the process gets no signal."""
    here, there = pair
    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    there.close()
    assert not is_quiet(here)
    assert send_at_once(here, b"x") == 0
    assert send_at_once(here, b"x") == 0
    here.close()
    assert send_at_once(here, b"x") == 0


def test_quiet_is_where_nothing_has_come(pair: Pair) -> None:
    """Neither data nor the end."""
    here, there = pair
    assert is_quiet(here)
    there.send(b"x")
    assert not is_quiet(here)
    here.recv(1)
    assert is_quiet(here)
    there.shutdown(socket.SHUT_WR)
    assert not is_quiet(here)


def test_no_other_thread_runs_meanwhile(pair: Pair) -> None:
    """One that waits for the interpreter's lock goes on waiting."""
    here, _ = pair
    ran: list[int] = []
    gate = threading.Lock()
    gate.acquire()

    def run() -> None:
        with gate:
            ran.append(1)

    other = threading.Thread(target=run)
    other.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        gate.release()
        lately = time.monotonic() + 0.05
        while time.monotonic() < lately:  # keeps the lock until the other thread certainly waits for it
            pass
        for _ in range(1000):  # one call is too quick for a thread that is only now woken
            send_at_once(here, b"x")
            is_quiet(here)
        seen = list(ran)
    finally:
        sys.setswitchinterval(interval)
    other.join()
    assert (seen, ran) == ([], [1])
