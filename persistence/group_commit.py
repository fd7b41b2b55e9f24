"""Many threads' writes in one statement and one commit, and nobody waits for it.

A thread that sends a write while none is under way carries it out itself. What others send meanwhile is gathered, and the
same thread carries that out next, all in one call: so the batch grows with the load, and a lone write waits for nobody.
Whoever is told what became of a write is told after its commit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from persistence.gather import choose

log = logging.getLogger(__name__)

Write = TypeVar("Write")
Answer = TypeVar("Answer")


class GroupCommit(Generic[Write, Answer]):
    """`together` answers several writes in order, all or none; what it raises, `alone` is asked for each, so that one bad
    write fails nobody else's. `done` gets the writes with their answers. Writes of one `key` are never in one call. `linger`
    is called before the first call, and may wait a moment for others; `settled` after each."""

    def __init__(
        self,
        together: Callable[[Sequence[Write]], Sequence[Answer]],
        alone: Callable[[Write], Answer | None],
        done: Callable[[Sequence[tuple[Write, Answer]]], None],
        key: Callable[[Write], Hashable],
        linger: Callable[[], None] = lambda: None,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        self._together = together
        self._alone = alone
        self._done = done
        self._key = key
        self._linger = linger
        self._settled = settled
        self._lock = threading.Lock()
        self._waiting: list[Write] = []
        self._under_way = False
        self.pending = 0  # writes that were sent and whose fate is not known yet

    def send(self, write: Write) -> None:
        """Returns at once if a write is under way, else when nothing waits any more. Raises nothing."""
        with self._lock:
            self._waiting.append(write)
            self.pending += 1
            if self._under_way:
                return
            self._under_way = True
        self._linger()
        while batch := self._take():
            self._carry_out(batch)
            with self._lock:
                self.pending -= len(batch)
            self._settled()

    def _take(self) -> list[Write]:
        """The next batch; none ends the lead."""
        with self._lock:
            batch, self._waiting = choose(self._waiting, self._key)
            self._under_way = bool(batch)
            return batch

    def _carry_out(self, batch: list[Write]) -> None:
        try:
            answered = list(zip(batch, self._together(batch), strict=True))
        except Exception as error:
            log.warning("%d writes together: %s; each is tried alone", len(batch), error)
            for write in batch:
                self._carry_out_alone(write)
        else:
            self._tell(answered)

    def _carry_out_alone(self, write: Write) -> None:
        try:
            answer = self._alone(write)
        except Exception:
            log.exception("unexpected fault of a write, going on with the others")
        else:
            if answer is not None:
                self._tell([(write, answer)])

    def _tell(self, answered: Sequence[tuple[Write, Answer]]) -> None:
        try:
            self._done(answered)
        except Exception:  # whoever leads must go on: others have left their writes here
            log.exception("unexpected fault after a commit, going on")
