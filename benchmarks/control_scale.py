"""What each control costs the database, with little and with much history.

    python benchmarks/control_scale.py [EXECUTIONS]         100,000 by default, ten steps each, beside 10

Prints the median milliseconds of a control as its caller waits for them, and the rows that PostgreSQL touched for it (read by
any scan, written). Servers are embedded, with fsync and synchronous_commit on.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from benchmarks.speed.grow import STEPS, grown_database
from benchmarks.speed.ours import NOOP, sequence
from benchmarks.speed.servers import Servers, open_servers
from orchestrator.control import Controller, Wish
from orchestrator.submit import Request, Submitter
from persistence.pool import Pool, open_pool

MANY = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
FEW = 10
REPEATS = 40
TOUCHED = """
SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0) + n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint AS rows
  FROM pg_stat_user_tables
"""
TRIP = ("pause", "resume", "cancel", "retry", "cancel", "rerun", "cancel", "skip", "cancel", "fork", "replay")


class Touched:
    """Rows that the database has touched so far, as its statistics tell once they are flushed."""

    def __init__(self, pool: Pool):
        self._pool = pool

    def __call__(self) -> int:
        with self._pool.connection() as connection:
            connection.execute("SELECT pg_stat_force_next_flush()")
        with self._pool.connection() as connection:
            connection.execute("SELECT pg_stat_clear_snapshot()")
            row = connection.execute(TOUCHED).fetchone()
        assert row is not None
        return int(row["rows"])


def measured(servers: Servers, history: int) -> dict[str, tuple[float, float]]:
    """By control: median milliseconds, and rows."""
    dsn, _ = grown_database(servers, history)
    times: dict[str, list[float]] = {}
    rows: dict[str, list[int]] = {}
    with open_pool(dsn, min_size=1, max_size=1) as pool:
        controller, submitter, touched = Controller(pool, None), Submitter(pool, None), Touched(pool)
        workflow = sequence(NOOP, STEPS)
        for _ in range(REPEATS):
            execution_id = submitter.submit(workflow, [Request()])[0].execution_id
            for action in TRIP:
                if action == "replay":
                    _complete(pool, execution_id)
                step = "step_0" if action in ("rerun", "skip", "fork", "replay") else None
                before = touched()
                begin = time.perf_counter()
                controller.carry_out(execution_id, Wish(action, actor="bench", step=step))
                times.setdefault(action, []).append((time.perf_counter() - begin) * 1000)
                rows.setdefault(action, []).append(touched() - before)
    return {action: (statistics.median(times[action]), statistics.median(rows[action])) for action in times}


def _complete(pool: Pool, execution_id: UUID) -> None:
    with pool.connection() as connection:
        connection.execute(
            "UPDATE workflow_steps SET status = 'completed', output = '{}' WHERE execution_id = %s AND step_index = 0",
            (execution_id,),
        )


def main(say: Callable[[str], None] = print) -> None:
    with tempfile.TemporaryDirectory(prefix="afu9-controls-") as name, open_servers(folder_of(name)) as servers:
        few, many = measured(servers, FEW), measured(servers, MANY)
    say(f"| control | {FEW} executions | rows | {MANY:,} executions | rows |\n|---|---|---|---|---|")
    for action in few:
        cells = [f"{took:.2f} ms | {rows:.0f}" for took, rows in (few[action], many[action])]
        say(f"| {action} | {' | '.join(cells)} |")


def folder_of(name: str) -> Path:
    """A folder that the account PostgreSQL runs as can reach."""
    folder = Path(name)
    folder.chmod(0o755)
    return folder


if __name__ == "__main__":
    main()
