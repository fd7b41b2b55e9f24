"""Cutting bytes into events and lines: however they are split on the way, the same comes out."""

from __future__ import annotations

import itertools

import pytest

from workers.mcp_client.child import Lines
from workers.mcp_client.sse import Event, EventReader, EventTooLarge

STREAM = (
    b"\xef\xbb\xbf: comment\n\nretry: 250\n\nid: 1\ndata:\n\n"
    b'event: message\r\nid: 2\r\ndata: {"a":\r\ndata: 1}\r\n\r\n'
    b"event: endpoint\rdata:x\r\r"
    b"id: bad\0id\ndata: last\nunknown: field\n\ndata: unfinished"
)
EVENTS = [
    Event("message", b"", "1"),
    Event("message", b'{"a":\n1}', "2"),
    Event("endpoint", b"x", "2"),
    Event("message", b"last", "2"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_do_not_depend_on_how_the_bytes_are_cut(size: int) -> None:
    """All three line ends, comments, several data lines, an id with NUL, an unfinished event."""
    reader = EventReader(1000)
    found = [event for i in range(0, len(STREAM), size) for event in reader.feed(STREAM[i : i + size])]
    assert found == EVENTS
    assert (reader.last_id, reader.retry_ms) == ("2", 250)


@pytest.mark.parametrize("part", [b"data: " + b"x" * 50, b"data: x\n", b": " + b"x" * 50])
def test_an_event_over_the_limit_is_refused(part: bytes) -> None:
    """Neither one endless line nor endless short ones are held."""
    reader = EventReader(400)
    with pytest.raises(EventTooLarge):
        list(itertools.chain.from_iterable(map(reader.feed, [part] * 1000)))


def test_many_small_events_are_no_large_one() -> None:
    """The limit is per event: a long stream of progress passes."""
    reader = EventReader(400)
    for _ in range(1000):
        assert len(list(reader.feed(b"data: 0123456789\n\n"))) == 1


@pytest.mark.parametrize("size", [1, 5, 4096])
def test_lines_keep_both_ends_of_what_is_too_long(size: int) -> None:
    """The ends of a line tell which request it answers."""
    found: list[tuple[bytes, bool]] = []
    lines = Lines(1000, lambda line, whole: found.append((line, whole)))
    data = b'{"a":1}\n\nSTART' + b"x" * 5000 + b'END\n{"b":2}\nlast'
    for i in range(0, len(data), size):
        lines.feed(data[i : i + size])
    lines.feed(b"")
    assert [found[0], *found[2:]] == [(b'{"a":1}', True), (b'{"b":2}', True), (b"last", True)]
    long, whole = found[1]
    assert not whole
    assert long.startswith(b"START")
    assert long.endswith(b"END")
    assert len(long) < 2500
