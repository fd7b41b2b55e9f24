"""Open a state folder's servers: become their owner, or attach to the process that owns them already.

Invariant: what the owner made outside the state folder (the sockets' folder in /tmp) is noted inside it before it is
used, so that the next owner finds it whatever happened to this one.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from persistence.embedded.find import EmbeddedUnavailable
from persistence.embedded.lock import Endpoints, find_running, publish, try_lock, withdraw
from persistence.embedded.postgres import Postgres
from persistence.embedded.server import Places
from persistence.embedded.valkey import Valkey
from persistence.embedded.watch import Keeper

ATTACH_LIMIT = 90.0


class EmbeddedServers:
    """Both servers, owned or attached to. As a context manager it yields its endpoints."""

    def __init__(self, endpoints: Endpoints, ownership: Ownership | None = None):
        self.endpoints = endpoints
        self._ownership = ownership

    def close(self) -> None:
        """The owner stops both servers; for an attached process there is nothing to do. May be called again."""
        if self._ownership is not None:
            self._ownership.end()

    def __enter__(self) -> Endpoints:
        return self.endpoints

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_embedded(state_dir: Path, *, durable: bool = True) -> EmbeddedServers:
    """Start both servers, or attach to the process that runs them for this folder already.

    durable=False is for tests: fast, always begins empty, and leaves nothing behind when it is closed.
    Raises EmbeddedUnavailable.
    """
    try:
        state_dir = state_dir.resolve()
        deadline = time.monotonic() + ATTACH_LIMIT
        while time.monotonic() < deadline:
            state_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            lock = try_lock(state_dir)
            if lock is not None:
                ownership = Ownership(state_dir, lock, durable)
                return EmbeddedServers(ownership.begin(), ownership)
            endpoints = find_running(state_dir)
            if endpoints is not None:
                return EmbeddedServers(endpoints)
            time.sleep(0.05)
    except OSError as error:
        raise EmbeddedUnavailable(f"the embedded servers cannot be started in {state_dir}: {error}") from error
    raise EmbeddedUnavailable(
        f"another process holds {state_dir / 'owner.lock'}, but its servers are not ready after {ATTACH_LIMIT:.0f} s; "
        "end that process, or use another state folder"
    )


class Ownership:
    """The lock, the folder of the sockets, and the thread that keeps the servers."""

    def __init__(self, state_dir: Path, lock: IO[bytes], durable: bool):
        self._state_dir = state_dir
        self._lock = lock
        self._durable = durable
        self._keeper: Keeper | None = None
        self._sockets = state_dir / "sockets"
        # A forked child shares the lock; left open there, it would outlive the owner. Closed, it keeps `end` away too.
        os.register_at_fork(after_in_child=self._lock.close)
        atexit.register(self.end)

    def begin(self) -> Endpoints:
        try:
            withdraw(self._state_dir)
            (self._state_dir / "logs").mkdir(mode=0o700, exist_ok=True)
            places = Places(self._state_dir, self._socket_folder(), self._durable)
            postgres, valkey = Postgres(places), Valkey(places)
            self._keeper = Keeper([valkey, postgres])
            self._keeper.open()
            found = Endpoints(postgres.url, valkey.url, self._state_dir, True, postgres.version, valkey.version)
            publish(found)
        except BaseException:
            self.end()
            raise
        return found

    def _socket_folder(self) -> Path:
        """A short name in /tmp, for a socket's path may have 104 bytes; the last owner's again if it was killed."""
        with suppress(OSError):
            old = Path(os.readlink(self._sockets))
            found = old.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022:
                return old
        folder = Path(tempfile.mkdtemp(prefix="afu9-", dir="/tmp"))
        if os.geteuid() == 0:
            folder.chmod(0o711)  # PostgreSQL runs as another account, and its own folder is in here
        self._sockets.unlink(missing_ok=True)
        self._sockets.symlink_to(folder)
        return folder

    def end(self) -> None:
        if self._lock.closed:  # ended already, or this is a forked child
            return
        withdraw(self._state_dir)
        if self._keeper is not None:
            self._keeper.close()
        with suppress(OSError):
            shutil.rmtree(os.readlink(self._sockets))
        self._sockets.unlink(missing_ok=True)
        if not self._durable and not os.path.lexists(self._state_dir / "pg"):
            shutil.rmtree(self._state_dir / "logs", ignore_errors=True)
            (self._state_dir / "owner.lock").unlink(missing_ok=True)
            with suppress(OSError):
                self._state_dir.rmdir()
        self._lock.close()
        atexit.unregister(self.end)
