"""What PostgreSQL and Valkey have in common as servers we own: start, wait for the first answer, stop.

Invariant: before a server starts, whatever an earlier owner left of it has ended.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import ClassVar

from persistence.embedded.account import Account
from persistence.embedded.find import EmbeddedUnavailable
from persistence.embedded.process import Steps, last_lines, put_down, put_down_orphan, spawn

START_LIMIT = 60.0


@dataclass(frozen=True, slots=True)
class Places:
    """state_dir stays; run is the folder of the sockets below /tmp, and of the data too when they need not be kept."""

    state_dir: Path
    run: Path
    durable: bool


class Server:
    """One server and its child process; every method is called from the thread that keeps it."""

    title: ClassVar[str]
    steps: ClassVar[Steps]
    data: Path
    url: str
    mark: Path  # a path of ours in its command line, by which an orphan is known

    def __init__(self, places: Places):
        self.places = places
        self.account = Account()
        self.version = "unknown"
        self.log = places.state_dir / "logs" / f"{self.title.lower()}.log"
        self.pid_file = places.state_dir / f"{self.title.lower()}.pid"
        self.process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Once per owner: folders, account, data."""

    def clear(self) -> None:
        """Before each start: what a dead server left that would keep a new one from starting."""

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def answer(self) -> str | None:
        """The server's version once it serves, else None."""
        raise NotImplementedError

    def put_down_orphan(self) -> None:
        put_down_orphan(self.pid_file, self.steps)

    def start(self) -> None:
        self.clear()
        self.launch(self.command())

    def launch(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        self.process = spawn(command, self.account, self.log, self.steps[0][0])
        self.pid_file.write_text(f"{self.process.pid}\n{self.mark}\n")
        return self.process

    def await_answer(self, halt: Event) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not halt.is_set():
            version = self.answer()
            if version is not None:
                self.version = version
                return
            if self.died():
                raise self.unavailable("did not start")
            if time.monotonic() > deadline:
                raise self.unavailable(f"did not answer within {START_LIMIT:.0f} s")
            halt.wait(0.02)

    def died(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        process = self.process
        if process is not None:
            put_down(process.pid, lambda: process.poll() is None, self.steps)
        self.process = None
        self.pid_file.unlink(missing_ok=True)

    def unavailable(self, what: str) -> EmbeddedUnavailable:
        code = self.process.poll() if self.process else None
        ended = "" if code is None else f" (it ended with {_exit_word(code)})"
        return EmbeddedUnavailable(f"{self.title} {what}{ended}; the end of {self.log}:\n{last_lines(self.log)}")


def _exit_word(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
