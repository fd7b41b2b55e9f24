"""Hints for watchers: which executions changed, never what became of them. A lost one is made good by looking at the rows.

Where steps go on inside a process nothing is pushed, and the hints of many changes go out together (`Teller`): whoever
watches reads an execution four times a second at most.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from uuid import UUID

import redis

log = logging.getLogger(__name__)

PACE = 0.05  # seconds between two hints of a process


def write_hint(executions: Iterable[UUID | None]) -> str:
    """A JSON list of the ids, each once; empty for none."""
    ids = [str(execution) for execution in dict.fromkeys(executions) if execution is not None]
    return json.dumps(ids) if ids else ""


def read_hint(hint: bytes) -> list[UUID]:
    """The ids of a hint. Raises ValueError for what is none."""
    ids = json.loads(hint)
    if not isinstance(ids, list):
        raise ValueError("a hint is a list of ids")
    return [UUID(str(one)) for one in ids]


class Teller:
    """A thread that publishes what changed: the first change at once, those soon after it together."""

    def __init__(self, publish: Callable[[str], None]) -> None:
        self._publish = publish
        self._changed: deque[UUID | None] = deque()
        self._filled = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="teller", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Returns when everything has been told."""
        self._stopping.set()
        self._filled.set()
        self._thread.join(timeout=5)

    def tell(self, execution: UUID | None) -> None:
        """It changed."""
        self._changed.append(execution)
        if not self._filled.is_set():
            self._filled.set()

    def _keep(self) -> None:
        while not self._stopping.is_set():
            self._filled.wait()
            self._filled.clear()
            self._tell_all()
            self._stopping.wait(PACE)
        self._tell_all()

    def _tell_all(self) -> None:
        changed = [self._changed.popleft() for _ in range(len(self._changed))]
        try:
            if hint := write_hint(changed):
                self._publish(hint)
        except redis.RedisError as error:
            log.debug("redis: a hint was lost, the rows tell the same: %s", error)
        except Exception:
            log.exception("hints: unexpected fault, going on")
