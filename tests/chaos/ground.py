"""What chaos stands on: servers of its own, the counting server, and one database and namespace per scenario.

Nothing here is shared with the other tests: the servers are killed on purpose. They are durable, because what a commit
promises is to be there after kill -9.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row

from orchestrator.broker import StepBroker, redis_client
from persistence.embedded import Endpoints, open_embedded
from persistence.embedded.process import read_pid
from persistence.migrate import migrate
from persistence.pool import Pool, open_pool, run
from persistence.settings import Settings
from tests.fleet import ROOT, environment, mcp_config

PATIENCE = 30.0  # seconds that the harness itself waits for a server it has killed
THREADS = 8
MOST_LOST = 100
PRICES = {"*": {"perCall": "0.000003", "perSecond": "0.0071"}}  # of every call; no two attempts cost the same


@dataclass
class Arena:
    """One scenario's database, namespace and folder."""

    settings: Settings
    environment: dict[str, str]
    folder: Path
    pool: Pool
    broker: StepBroker
    _connection: psycopg.Connection[DictRow] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[DictRow]:
        """Asks the database from outside the engine, one thread at a time; waits while it is being restarted."""
        deadline = time.monotonic() + PATIENCE
        with self._lock:
            while True:
                try:
                    if self._connection is None or self._connection.closed:
                        self._connection = psycopg.connect(
                            self.settings.database_url, autocommit=True, application_name="chaos", row_factory=dict_row
                        )
                    return self._connection.execute(sql.encode(), parameters).fetchall()
                except psycopg.OperationalError:
                    if self._connection is not None:
                        self._connection.close()
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)

    def valkey(self) -> redis.Redis:
        return redis_client(self.settings.redis_url)

    def close(self) -> None:
        self.pool.close()
        self.broker.close()
        if self._connection is not None:
            self._connection.close()


@dataclass
class Ground:
    """Both servers and the counting server."""

    endpoints: Endpoints
    folder: Path
    tools_url: str
    postgres: str  # its version

    def pid(self, title: str) -> int | None:
        """Of `postgresql` or `valkey`, as their keeper noted it."""
        return read_pid(self.endpoints.state_dir / f"{title}.pid")

    def tool_counts(self) -> dict[str, Any]:
        counts: dict[str, Any] = httpx.get(self.tools_url.replace("/mcp", "/counts"), timeout=30).json()
        return counts

    @contextmanager
    def arena(self, name: str, **changes: Any) -> Iterator[Arena]:
        """A database with our schema under audit; `changes` to the settings of its processes."""
        folder = self.folder / name
        folder.mkdir()
        dsn = make_conninfo(self.endpoints.database_url, dbname=name)
        with psycopg.connect(self.endpoints.database_url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        migrate(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute((Path(__file__).with_name("watch.sql")).read_bytes())
        chosen = {"threads": THREADS, "heartbeat_seconds": 0.5, "lease_seconds": 2.0, **changes}
        settings = Settings(
            database_url=dsn,
            redis_url=self.endpoints.redis_url,
            namespace=name,
            state_dir=folder,
            reap_seconds=0.5,
            dispatch_seconds=0.2,
            drain_seconds=5,
            **chosen,
        )
        config = mcp_config(folder, chaos={"url": self.tools_url, "protocol": "legacy", "prices": PRICES})
        told = environment(settings, config) | {
            "AFU9_MAX_LOST": str(MOST_LOST),
            "AFU9_DIRECT_SECONDS": "1",
            "AFU9_LOG_LEVEL": "WARNING",
        }
        broker = StepBroker(settings.redis_url, namespace=name)
        arena = Arena(settings, told, folder, open_pool(dsn), broker)
        try:
            yield arena
        except BaseException:
            print(logs(folder))
            raise
        finally:
            arena.close()


@contextmanager
def open_ground() -> Iterator[Ground]:
    """Starts everything, and ends it whatever happens."""
    with tempfile.TemporaryDirectory(prefix="afu9-chaos-") as name, counting_server() as url:
        folder = Path(name)
        folder.chmod(0o711)  # as root, PostgreSQL runs under another account and must reach its data
        with open_embedded(folder / "state") as endpoints:
            yield Ground(endpoints, folder, url, endpoints.postgres_version)


@contextmanager
def counting_server() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.chaos.counting_server"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def catalogue_is_stored(arena: Arena) -> bool:
    """Whether recovery knows what each tool says of itself; before that a lost call counts as repeatable."""
    return bool(run(arena.pool, "list_tools", {"server": "chaos"}))


def logs(folder: Path, files: int = 6, limit: int = 2000) -> str:
    """The ends of the youngest processes' logs, for a scenario that failed."""
    youngest = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)[-files:]
    return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-limit:]}" for path in youngest)


def show(value: object) -> str:
    return json.dumps(value, indent=1, default=str)[:2000]
