"""The processes of a run. Each ends with this one, whatever becomes of it, and is ended by its own id.

A child says one line when it is ready, waits for one (`go`), and says its answer in another. So what it imports is not
measured, and all begin at once.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
READY_SECONDS = 90
ANSWER_SECONDS = 600


class ChildFailed(RuntimeError):
    """A process of this run ended, or said nothing in time."""


def end_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A process in a session of its own. As a context manager it is ended at the end."""

    def __init__(self, name: str, command: Sequence[str], logs: Path, environment: Mapping[str, str] | None = None):
        self.name = name
        self._log_path = logs / f"{name}.log"
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=plain_environment() | dict(environment or {}),
                start_new_session=True,
                text=True,
                preexec_fn=end_with_parent,
            )
        self.pid = self._process.pid
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())
        self._lines.put(None)

    def line(self, seconds: float = READY_SECONDS) -> str:
        """The next line it says."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise self.failure(f"said nothing for {seconds:.0f} s") from None
        if line is None:
            raise self.failure("ended")
        return line

    def go(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self.failure("ended") from None

    def alive(self) -> None:
        """Raises ChildFailed if it is not."""
        if self._process.poll() is not None:
            raise self.failure(f"ended with {self._process.returncode}")

    def failure(self, what: str) -> ChildFailed:
        log = self._log_path.read_text(errors="replace").splitlines()[-15:]
        return ChildFailed("\n  ".join([f"{self.name} {what}; its log ends:", *log]))

    def stop(self) -> None:
        """Ends its input and asks it to end; after 15 s, and for what it has left behind, SIGKILL to its own session."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            with suppress(OSError):
                self._process.stdin.close()
            self._process.terminate()
            self._process.send_signal(signal.SIGCONT)  # it may have been stopped
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@contextmanager
def ready(children: Sequence[Child]) -> Iterator[list[Child]]:
    """All of them, each having said that it is ready; ended at the end."""
    with ExitStack() as stack:
        for child in children:
            stack.enter_context(child)
        for child in children:
            child.line()
        yield list(children)


def plain_environment() -> dict[str, str]:
    """Without settings of the caller's own: what is measured are the defaults."""
    ours = ("AFU9_", "DATABASE_", "REDIS_", "MCP_", "dramatiq_", "DBOS_", "RESTATE_", "PG")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
