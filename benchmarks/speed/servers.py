"""The servers of a run, the same for everybody: the embedded PostgreSQL and Valkey, and a tool server, quick and slow.

Each run of a case gets an empty database (or Valkey database) of its own, after a checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from benchmarks.speed.children import Child
from persistence.embedded import open_embedded

TOOL_SERVER = Path(__file__).parents[1] / "tool_server.py"
TOOL_SECONDS = 0.1  # of the slow one
RELIABILITY = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_connections")


@dataclass(frozen=True, slots=True)
class Servers:
    folder: Path
    logs: Path
    database_url: str
    redis_url: str
    postgres_pid: int
    valkey_pid: int
    tool_pids: list[int]
    fast_tool: str
    slow_tool: str
    versions: dict[str, str]
    settings: dict[str, str]

    @property
    def groups(self) -> dict[str, list[int]]:
        return {"postgres": [self.postgres_pid], "valkey": [self.valkey_pid], "tools": self.tool_pids}

    def dsn(self, database: str) -> str:
        return self.database_url.replace("/afu9?", f"/{database}?")

    def fresh_database(self, name: str) -> str:
        """The dsn of an empty one."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {name}")
        self.checkpoint()
        return self.dsn(name)

    def checkpoint(self) -> None:
        """So that none is due while something is measured, and what came before is on the disk."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")

    def fresh_valkey(self, number: int) -> str:
        """The URL of an empty one."""
        url = self.redis_url.removesuffix("0") + str(number)
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        return url


@contextmanager
def open_servers(folder: Path) -> Iterator[Servers]:
    """In a folder that the account PostgreSQL runs as can reach."""
    logs = folder / "logs"
    logs.mkdir()
    tools = [
        Child(name, [sys.executable, str(TOOL_SERVER), str(seconds)], logs)
        for name, seconds in (("fast-tool", 0.0), ("slow-tool", TOOL_SECONDS))
    ]
    with tools[0], tools[1], open_embedded(folder / "state") as endpoints:
        fast, slow = (tool.line() for tool in tools)
        with psycopg.connect(endpoints.database_url, autocommit=True) as connection:
            settings = {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in RELIABILITY}
            backend = connection.info.backend_pid
            postmaster = int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])
        with redis.Redis.from_url(endpoints.redis_url) as client:
            valkey = client.info("server")["process_id"]
            settings |= client.config_get("append*")
        yield Servers(
            folder,
            logs,
            endpoints.database_url,
            endpoints.redis_url,
            postmaster,
            int(valkey),
            [tool.pid for tool in tools],
            fast,
            slow,
            {"postgresql": endpoints.postgres_version, "valkey": endpoints.redis_version},
            {name: settings[name] for name in (*RELIABILITY, "appendonly", "appendfsync")},
        )
