"""Who owns a state folder: the process that holds its lock. Everyone else attaches to what that process published.

Invariant: `endpoints.json` counts only while the lock is held and the process it names is alive; the kernel drops the
lock with its process, so nothing a killed owner left can be taken for a running one.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from persistence.embedded.process import exists


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where both servers answer. owner: this process started them, and they end with it."""

    database_url: str
    redis_url: str
    state_dir: Path
    owner: bool
    postgres_version: str
    redis_version: str


def try_lock(state_dir: Path) -> IO[bytes] | None:
    """The lock, held until the file is closed; None if another process has it."""
    path = state_dir / "owner.lock"
    try:
        lock = path.open("ab")
    except FileNotFoundError:
        return None  # the owner of a throwaway folder removed it just now
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass  # held by another process, or removed by one that was just closing
    lock.close()
    return None


def publish(endpoints: Endpoints) -> None:
    """Write the note for those who attach, by one rename."""
    note = endpoints.state_dir / "endpoints.json"
    new = note.with_suffix(".new")
    new.write_text(json.dumps({**asdict(endpoints), "state_dir": str(endpoints.state_dir), "pid": os.getpid()}))
    new.replace(note)


def withdraw(state_dir: Path) -> None:
    """Remove the note: whoever comes now waits for the lock."""
    (state_dir / "endpoints.json").unlink(missing_ok=True)


def find_running(state_dir: Path) -> Endpoints | None:
    """The endpoints of an owner that is alive right now, else None. Starts and changes nothing."""
    try:
        with (state_dir / "owner.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        pass
    except OSError:
        return None
    try:
        noted = json.loads((state_dir / "endpoints.json").read_bytes())
        pid = noted.pop("pid")
        return Endpoints(**{**noted, "state_dir": Path(noted["state_dir"]), "owner": False}) if exists(pid) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
