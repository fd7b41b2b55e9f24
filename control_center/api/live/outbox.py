"""What waits to be sent to one reader.

Invariant: it is bounded. Per topic it holds one message per row, the newest; a topic with too many is emptied and the
reader is told to read it anew (resync).
"""

from __future__ import annotations

import asyncio
from collections import deque
from uuid import UUID

from control_center.api.live.messages import Message, Resync, say
from orchestrator.metrics import WS_RESYNCS

SLOT = 1000  # rows of a topic that may wait
BYTES = 2_000_000  # of all topics together
SAID = 1000  # answers that may wait: more, and the reader does not read
FRAME = 262_144  # characters sent at once, about; a client's own limit is often 1 MiB
TOO_SLOW = 4408


class Outbox:
    """Filled by the hub, emptied by one socket or stream. Lives in the event loop's thread."""

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.filled = asyncio.Event()
        self.ended: int | None = None  # the close code, once nothing more is to come
        self._said: deque[Message] = deque()
        self._slots: dict[str, dict[UUID, Message]] = {}
        self._bytes = 0

    def say(self, message: Message) -> None:
        """An answer or a word of the hub: told in order, before any event that waits."""
        self._said.append(message)
        self.filled.set()
        if len(self._said) > SAID:
            self.end(TOO_SLOW)

    def put(self, topic: str, row: UUID, message: Message) -> None:
        """A row's newest state, in the place of an older one that still waits."""
        slot = self._slots.setdefault(topic, {})
        if (older := slot.pop(row, None)) is not None:
            self._bytes -= len(older.text)
        slot[row] = message
        self._bytes += len(message.text)
        self.filled.set()
        if len(slot) > SLOT or self._bytes > BYTES:
            self.resync(topic, message.position or "")

    def resync(self, topic: str, position: str) -> None:
        """In the place of all that waits for the topic."""
        self.drop(topic)
        already = any(one.name == "resync" and f'"{topic}"' in one.text for one in self._said)
        if not already:
            self.say(say(Resync(topic=topic, position=position)))
            WS_RESYNCS.add(1)

    def drop(self, topic: str) -> None:
        self._bytes -= sum(len(message.text) for message in self._slots.pop(topic, {}).values())

    def end(self, code: int) -> None:
        """Nothing more is to come."""
        self.ended = self.ended or code
        self.filled.set()

    def take(self) -> list[Message]:
        """The next messages, oldest first, about a frame's worth. Clears `filled` when nothing is left."""
        taken: list[Message] = []
        room = FRAME
        while self._said and room > 0:
            taken.append(self._said.popleft())
            room -= len(taken[-1].text)
        for topic in list(self._slots):
            slot = self._slots[topic]
            while slot and room > 0:
                message = slot.pop(next(iter(slot)))
                self._bytes -= len(message.text)
                taken.append(message)
                room -= len(message.text)
            if not slot:
                del self._slots[topic]
        if not (self._said or self._slots or self.ended):
            self.filled.clear()
        return taken
