"""A server as a child process: start it so that it dies with us, stop it step by step, know it again by its pid file.

Invariant: a signal only goes to our own child, or to a process whose command line names our folder.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from persistence.embedded.account import Account

Steps = Sequence[tuple[signal.Signals, float]]
LOG_LIMIT = 10_000_000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def spawn(command: Sequence[str], account: Account, log: Path, last_will: signal.Signals) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that the terminal's Ctrl-C does not reach it.

    On Linux the kernel sends it `last_will` when the *thread* that calls this ends: call it from a thread that lives
    as long as the child should.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(last_will), 0, 0, 0)
            if os.getppid() != parent:  # it was killed before the call above could notice
                os._exit(1)

    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.old"))
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=clean_environment(),
            start_new_session=True,
            umask=0o077,
            preexec_fn=die_with_parent,
            **account.popen_options(),
        )


def clean_environment() -> dict[str, str]:
    """The environment without what PostgreSQL would obey: PG*, and locales that may not be installed."""
    unwanted = ("PG", "LC_", "LANG")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def put_down(pid: int, alive: Callable[[], bool], steps: Steps) -> None:
    """Send each signal in turn, and give the process its seconds after each."""
    for number, patience in steps:
        if not alive():
            return
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience
        while alive() and time.monotonic() < deadline:
            time.sleep(0.01)


def put_down_orphan(pid_file: Path, steps: Steps) -> None:
    """Stop what an owner that was killed left running; a pid that means another process by now is left alone."""
    pid = read_pid(pid_file)
    if pid is not None:
        needle = pid_file.read_text().splitlines()[1:]
        put_down(pid, lambda: bool(needle) and runs(pid, Path(needle[0])), steps)
    pid_file.unlink(missing_ok=True)


def read_pid(pid_file: Path) -> int | None:
    """The first line of a pid file; None if there is no file or it was cut off while being written."""
    try:
        pid = abs(int(pid_file.read_text().splitlines()[0]))
    except (OSError, ValueError, IndexError):
        return None
    return pid if pid > 1 else None


def runs(pid: int, needle: Path) -> bool:
    """Is there such a process, not a zombie, with that path in its command line?"""
    if Path("/proc/self/cmdline").exists():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
    else:
        command = subprocess.run(
            ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
        ).stdout
    return os.fsencode(needle) in command


def exists(pid: int) -> bool:
    """Is there any process of that number, whoever runs it?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a log, indented, for an error message."""
    with suppress(OSError):
        lines = log.read_text(errors="replace").splitlines()[-count:]
        return "\n".join(f"  {line}" for line in lines)
    return ""


def sync(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
