"""Server-sent events, cut from bytes as they arrive.

Pure: no I/O. One event may be megabytes long in one line, so pieces of an unfinished line are kept in a list and joined
once; an event larger than the limit is refused before it is held whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


class EventTooLarge(Exception):
    """One event is larger than the limit."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its type, the joined `data` lines, and the id to resume after."""

    name: str
    data: bytes
    id: str


class EventReader:
    """Feed it bytes, get events. `last_id` and `retry_ms` are what the stream has said so far."""

    def __init__(self, limit: int) -> None:
        self.last_id = ""
        self.retry_ms: int | None = None
        self._limit = limit
        self._pieces: list[bytes] = []
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0  # of the unfinished event's data
        self._pending = 0  # of the unfinished line
        self._after_cr = False
        self._first_line = True

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that the chunk completes."""
        if self._after_cr and chunk.startswith(b"\n"):  # a CRLF that was cut in two
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        lines = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines[:-1]:
            self._pieces.append(line)
            whole = b"".join(self._pieces)
            self._pieces.clear()
            self._pending = 0
            event = self._line(whole)
            if event is not None:
                yield event
        self._hold(lines[-1])

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._pending += len(piece)
        if self._size + self._pending > self._limit:
            raise EventTooLarge

    def _line(self, line: bytes) -> Event | None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            self.last_id = value.decode("utf-8", "replace")
        elif field == b"retry" and value.isdigit():
            self.retry_ms = int(value[:9])
        return None

    def _dispatch(self) -> Event | None:
        data, name = b"\n".join(self._data), self._name
        had_data = bool(self._data)
        self._data.clear()
        self._name, self._size = "", 0
        return Event(name or "message", data, self.last_id) if had_data else None
