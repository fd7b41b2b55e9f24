"""Threads that a test starts: they all end, and what they raise is raised by the test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")

LONG = 30.0  # seconds after which something hangs


class Running(Generic[Result]):
    """A call in a thread of its own."""

    def __init__(self, call: Callable[..., Result], *arguments: Any):
        self._call, self._arguments = call, arguments
        self._result: list[Result] = []
        self._raised: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._result.append(self._call(*self._arguments))
        except BaseException as error:
            self._raised.append(error)

    def result(self) -> Result:
        """What it answered, or raises what it raised."""
        self.thread.join(LONG)
        assert not self.thread.is_alive(), "it hangs"
        if self._raised:
            raise self._raised[0]
        return self._result[0]


class Gate:
    """Holds up whoever comes until it is opened, longer than anybody waits for that one."""

    def __init__(self) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()

    def wait_for_someone(self) -> None:
        assert self._reached.wait(LONG), "nobody came"

    def pass_through(self) -> None:
        self._reached.set()
        assert self._opened.wait(2 * LONG), "nobody opened"

    def open(self) -> None:
        self._opened.set()
