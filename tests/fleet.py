"""Real processes of ours for acceptance tests: started by name, ended by their id, also when a test fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from persistence.pool import Pool, run
from persistence.settings import Settings

ROOT = Path(__file__).parent.parent
AT_REST = ("completed", "failed", "cancelled", "paused")


@contextmanager
def running_fleet(variables: Mapping[str, str], folder: Path, *roles: str) -> Iterator[Fleet]:
    """A fleet with these roles, which ends with the block; its logs are in a folder of their own, and printed."""
    logs = folder / "logs"
    logs.mkdir()
    fleet = Fleet(variables, logs)
    try:
        for role in roles:
            fleet.start(role)
        yield fleet
    finally:
        fleet.end()
        print(fleet.log())


class Fleet:
    """Roles as processes, all with the same environment."""

    def __init__(self, environment: Mapping[str, str], logs: Path):
        self.environment = dict(environment)
        self._logs = logs
        self._processes: list[subprocess.Popen[bytes]] = []
        self._roles: list[str] = []

    def start(
        self, *arguments: str, program: Sequence[str] = ("control_center",), through: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """`afu9 <arguments>` in a session of its own; its output goes to the log folder. `program`: another module that
        takes the same arguments, and what it takes before them. `through`: a command that becomes the one after it."""
        log = (self._logs / f"{len(self._processes)}-{arguments[0]}.log").open("wb")
        process = subprocess.Popen(
            [*through, sys.executable, "-m", *program, *arguments],
            env=self.environment,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            start_new_session=True,
        )
        log.close()
        self._processes.append(process)
        self._roles.append(arguments[0])
        return process

    def processes(self, role: str) -> list[subprocess.Popen[bytes]]:
        """Those started with this role, in order."""
        return [process for process, name in zip(self._processes, self._roles, strict=True) if name == role]

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
                process.kill()
            process.wait()

    def log(self) -> str:
        return "\n".join(f"== {path.name}\n{path.read_text()}" for path in sorted(self._logs.glob("*.log")))


def environment(settings: Settings, config: Path | None = None) -> dict[str, str]:
    """A clean environment that says what `settings` say."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "AFU9_NAMESPACE": settings.namespace,
        "AFU9_STATE_DIR": str(settings.state_dir),
        "AFU9_THREADS": str(settings.threads),
        "AFU9_HEARTBEAT_SECONDS": str(settings.heartbeat_seconds),
        "AFU9_LEASE_SECONDS": str(settings.lease_seconds),
        "AFU9_REAP_SECONDS": str(settings.reap_seconds),
        "AFU9_DISPATCH_SECONDS": str(settings.dispatch_seconds),
        "AFU9_DRAIN_SECONDS": str(settings.drain_seconds),
        **({"AFU9_MCP_CONFIG": str(config)} if config else {}),
    }


@contextmanager
def bare_server() -> Iterator[str]:
    """The example server in the original's style, on a port of its own; yields its URL."""
    command = [sys.executable, str(ROOT / "examples" / "servers" / "bare.py"), "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
    finally:
        process.kill()
        process.communicate()


def mcp_config(folder: Path, **servers: Mapping[str, Any]) -> Path:
    """An mcpServers file."""
    path = folder / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}))
    return path


def wait_until(condition: Callable[[], Any], seconds: float, what: str = "it") -> None:
    """Polls; fails with a word when the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        threading.Event().wait(0.02)


def count(pool: Pool, status: str, ids: Sequence[UUID]) -> int:
    """How many of the executions have this status."""
    return sum(row["status"] == status for row in run(pool, "get_progress", {"ids": list(ids)}))


def wait_at_rest(pool: Pool, ids: Sequence[UUID], seconds: float) -> None:
    def rest() -> bool:
        return all(row["status"] in AT_REST for row in run(pool, "get_progress", {"ids": list(ids)}))

    wait_until(rest, seconds, f"the end of {len(ids)} executions")
