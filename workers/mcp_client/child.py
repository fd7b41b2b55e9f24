"""One running child process that speaks newline-delimited JSON: a writer, a reader, and an end that leaves nothing
behind.

One thread writes, so that a message is never cut in half by a caller whose time is up; one thread reads stdout and
stderr, hands on each line, and reaps the child when it is gone. The process group is killed before its leader is
reaped: until then the kernel cannot give its number to somebody else.
"""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

_READ_BYTES = 65536
_LOOK_SECONDS = 0.5  # how often a silent child is looked at: it may be gone while a grandchild holds its pipes open
_STOP_LOOK_SECONDS = 0.05
_LEAVE_SECONDS, _TERM_SECONDS = 0.5, 2.0
_STDERR_LINES = 12
_ENDS_BYTES = 256


@dataclass(slots=True)
class Outgoing:
    """A message on its way. `dropped` before it is begun: it is not sent at all."""

    data: bytes
    begun: bool = False
    dropped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> bool:
        with self.lock:
            self.begun = not self.dropped
            return self.begun

    def drop(self) -> bool:
        """True if nothing of it was sent."""
        with self.lock:
            self.dropped = True
            return not self.begun


class Child:
    """A started process. `on_line` gets each line of stdout (and False for one over `line_limit`, of which only the
    ends are left); `on_end` is called once, after the process and its group are gone.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        *,
        line_limit: int,
        on_line: Callable[[bytes, bool], None],
        on_end: Callable[[], None],
        name: str,
    ) -> None:
        self.process = process
        self.ended = threading.Event()
        self.exit_code: int | None = None
        self._limit = line_limit
        self._on_line, self._on_end = on_line, on_end
        self._outbox: queue.SimpleQueue[Outgoing | None] = queue.SimpleQueue()
        self._stderr: deque[bytes] = deque(maxlen=_STDERR_LINES)
        self._stop_at: float | None = None
        self._threads = [
            threading.Thread(target=target, name=f"mcp-{name}-{word}", daemon=True)
            for word, target in (("read", self._read), ("write", self._write))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def send(self, data: bytes) -> Outgoing:
        message = Outgoing(data + b"\n")
        self._outbox.put(message)
        return message

    def last_words(self) -> str:
        """The last lines the child wrote to stderr."""
        return b"\n".join(self._stderr).decode("utf-8", "replace").strip()

    def end(self, grace: float) -> None:
        """Close its stdin and let it leave by itself; its group gets SIGTERM after `grace` seconds, then SIGKILL."""
        self._stop_at = time.monotonic() + grace
        self._outbox.put(None)

    def join(self) -> None:
        """Wait until it is gone and its threads have ended."""
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _write(self) -> None:
        stdin = _pipe(self.process.stdin)
        with contextlib.suppress(OSError):  # the child is gone; the reader notices that too
            while (message := self._outbox.get()) is not None:
                if message.begin():
                    rest = memoryview(message.data)
                    while rest:
                        rest = rest[stdin.write(rest) :]
        with contextlib.suppress(OSError):
            stdin.close()

    def _read(self) -> None:
        stdout, stderr = _pipe(self.process.stdout), _pipe(self.process.stderr)
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ, Lines(self._limit, self._on_line))
            selector.register(stderr, selectors.EVENT_READ, Lines(4096, self._keep_error))
            try:
                while stdout in (key.fileobj for key in selector.get_map().values()) and not self._pump(selector):
                    pass
            finally:
                self._outbox.put(None)
                self._finish(selector)
                stdout.close()
                stderr.close()
                self.ended.set()
                self._on_end()

    def _pump(self, selector: selectors.BaseSelector) -> bool:
        """Read what there is. True when the child is gone, or has had its time to leave."""
        ready = selector.select(_LOOK_SECONDS if self._stop_at is None else _STOP_LOOK_SECONDS)
        self._take(ready, selector)
        if self._stop_at is not None and time.monotonic() > self._stop_at:
            return True
        return not ready and self._exited()

    def _finish(self, selector: selectors.BaseSelector) -> None:
        """Read the last words, then make sure that the whole group is gone, and reap."""
        group = self.process.pid
        if not self._leaves(selector, _LEAVE_SECONDS):
            _signal_group(group, signal.SIGTERM)
            self._leaves(selector, _TERM_SECONDS)
        _signal_group(group, signal.SIGKILL)
        self.exit_code = self.process.wait()

    def _leaves(self, selector: selectors.BaseSelector, patience: float) -> bool:
        """Whether the process ends within `patience` seconds; what it still says is read."""
        end = time.monotonic() + patience
        while not self._exited() and time.monotonic() < end:
            if selector.get_map():
                self._take(selector.select(_STOP_LOOK_SECONDS), selector)
            else:
                time.sleep(_STOP_LOOK_SECONDS / 5)
        return self._exited()

    def _take(self, ready: list[tuple[selectors.SelectorKey, int]], selector: selectors.BaseSelector) -> None:
        for key, _ in ready:
            chunk = os.read(key.fd, _READ_BYTES)
            key.data.feed(chunk)
            if not chunk:
                selector.unregister(key.fileobj)

    def _keep_error(self, line: bytes, _whole: bool) -> None:
        self._stderr.append(line)

    def _exited(self) -> bool:
        """Whether the process has ended; it stays a zombie, so that its group's number stays ours."""
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self.process.poll() is not None
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class Lines:
    """Cuts bytes into lines. Of a line over the limit only both ends are kept: they tell which request it answers."""

    def __init__(self, limit: int, on_line: Callable[[bytes, bool], None]) -> None:
        self._limit, self._on_line = limit, on_line
        self._pieces: list[bytes] = []
        self._size = 0
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        """No bytes: the end; a last line without a line break counts."""
        if not chunk:
            self._emit()
            return
        first, *others = chunk.split(b"\n")
        self._hold(first)
        for piece in others:
            self._emit()
            self._hold(piece)

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= self._limit:
            self._pieces.append(piece)
            return
        self._tail = (self._tail + piece)[-_ENDS_BYTES:]
        if len(self._pieces) > 1 or (self._pieces and len(self._pieces[0]) > _ENDS_BYTES):
            self._pieces = [b"".join(self._pieces)[:_ENDS_BYTES]]
        elif not self._pieces:
            self._pieces = [piece[:_ENDS_BYTES]]

    def _emit(self) -> None:
        line = b"".join(self._pieces)
        if self._size > self._limit:
            self._on_line(line + self._tail, False)
        elif line.strip():
            self._on_line(line, True)
        self._pieces, self._size, self._tail = [], 0, b""


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise TypeError("the child was started without pipes")
    return stream


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
