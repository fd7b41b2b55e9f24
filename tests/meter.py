"""What work costs, counted without a clock: by PostgreSQL's own statistics, by what goes over its wire, by Redis' statistics.

It holds for a pool of one connection and servers that do nothing else meanwhile.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis
from psycopg.conninfo import conninfo_to_dict

from persistence.pool import Connection, Pool

FLUSH = "SELECT pg_stat_force_next_flush()"
COMMITS = "SELECT xact_commit, xact_rollback FROM pg_stat_database WHERE datname = %s"
TABLES = """SELECT relname, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del, coalesce(idx_tup_fetch, 0) + seq_tup_read AS read
              FROM pg_stat_user_tables"""


@dataclass
class Cost:
    """statements: executions that PostgreSQL was asked for. round_trips: times that it was waited for. The rows are those of
    all tables; `read` by table. redis: calls by command, those of scripts too (so `evalsha` is one round trip)."""

    statements: int = 0
    round_trips: int = 0
    commits: int = 0
    rollbacks: int = 0
    inserted: int = 0
    updated: int = 0
    hot: int = 0
    deleted: int = 0
    read: dict[str, int] = field(default_factory=dict)
    redis: dict[str, int] = field(default_factory=dict)


class Meter:
    """`watcher` is a connection to another database of the same server, so that looking is not counted."""

    def __init__(self, pool: Pool, watcher: Connection, valkey: redis.Redis, wire: Path):
        assert pool.max_size == 1
        self._pool = pool
        self._watcher = watcher
        self._valkey = valkey
        self._wire = wire
        self._database = str(conninfo_to_dict(str(pool.conninfo))["dbname"])
        self._looking = 0  # commits of its own
        with self.costs() as nothing:
            pass
        self._looking = nothing.commits

    @contextmanager
    def costs(self) -> Iterator[Cost]:
        """Filled in when the block ends."""
        cost = Cost()
        before = self._look()
        calls = self._calls()
        with self._wire.open("wb") as wire:
            with self._pool.connection() as connection:
                connection.pgconn.trace(wire.fileno())
            yield cost
            with self._pool.connection() as connection:
                connection.pgconn.untrace()
        cost.redis = dict(sorted((self._calls() - calls).items()))
        after = self._look()
        cost.commits, cost.rollbacks = after["commit"] - before["commit"], after["rollback"] - before["rollback"]
        cost.commits -= self._looking
        for kind in ("inserted", "updated", "hot", "deleted"):
            setattr(cost, kind, after[kind] - before[kind])
        cost.read = {table: after[table] - count for table, count in before.items() if table.startswith("workflow_")}
        lines = self._wire.read_text(errors="replace")
        cost.statements = len(re.findall(r"\tF\t\d+\t(?:Execute|Query)\b", lines))
        cost.round_trips = len(re.findall(r"\tB\t\d+\tReadyForQuery\b", lines))

    def _look(self) -> Counter[str]:
        seen: Counter[str] = Counter()
        with self._pool.connection() as connection:
            connection.execute(FLUSH, prepare=False)  # what is prepared costs one more commit, once
            for row in connection.execute(TABLES, prepare=False):
                seen["inserted"] += row["n_tup_ins"]
                seen["updated"] += row["n_tup_upd"]
                seen["hot"] += row["n_tup_hot_upd"]
                seen["deleted"] += row["n_tup_del"]
                seen[row["relname"]] += row["read"]
            connection.execute(FLUSH, prepare=False)
        (ends,) = self._watcher.execute(COMMITS, (self._database,)).fetchall()
        seen["commit"], seen["rollback"] = ends["xact_commit"], ends["xact_rollback"]
        return seen

    def _calls(self) -> Counter[str]:
        stats = self._valkey.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): values["calls"] for name, values in stats.items()}
        return Counter({name: count for name, count in calls.items() if name != "info"})


@contextmanager
def no_vacuum(url: str) -> Iterator[Connection]:
    """Without autovacuum, whose transactions count too; a connection to watch from."""
    with psycopg.connect(url, autocommit=True, row_factory=psycopg.rows.dict_row) as watcher:
        watcher.execute("ALTER SYSTEM SET autovacuum = off")
        watcher.execute("SELECT pg_reload_conf()")
        try:
            yield watcher
        finally:
            watcher.execute("ALTER SYSTEM RESET autovacuum")
            watcher.execute("SELECT pg_reload_conf()")
