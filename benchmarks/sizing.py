"""How large a deployment must be: memory of each role, what an execution takes on disk, and connections to PostgreSQL.

    python -m benchmarks.sizing

Starts one process of each role on embedded servers, with 32 threads, gives it 2,000 executions of 10 no-op steps
(builtin.echo), and prints JSON. Memory is the proportional set size after the work, in MB; disk is what tables and indexes
have grown by, per execution of 10 steps, after VACUUM; log is what PostgreSQL wrote ahead meanwhile; connections are those
of the roles, before the work and at most.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import psycopg

from orchestrator.broker import StepBroker
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.embedded import open_embedded
from persistence.migrate import migrate
from persistence.pool import open_pool, run
from persistence.settings import Settings
from tests.fleet import environment

ROLES = ("orchestrator", "api", "worker")
EXECUTIONS, STEPS, THREADS = 2_000, 10, 32
TABLES = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'afu9'"


def memory(process: subprocess.Popen[bytes]) -> float:
    """Proportional set size in MB."""
    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    return round(int(re.findall(r"^Pss:\s+(\d+) kB", text, re.M)[0]) / 1024, 1)


@contextmanager
def running(settings: Settings) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    variables = environment(settings) | {"AFU9_API_PORT": "0"}
    command = [sys.executable, "-m", "control_center"]
    started = {
        role: subprocess.Popen([*command, role], env=variables, stderr=subprocess.DEVNULL, start_new_session=True)
        for role in ROLES
    }
    try:
        yield started
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def ask(database: psycopg.Connection[Any], text: str) -> int:
    row = database.execute(text.encode()).fetchone()
    assert row is not None
    return int(row[0])


def measure(settings: Settings) -> dict[str, Any]:
    step = {"tool": "builtin.echo", "params": {"value": "${input.n}"}}
    workflow = validate(
        {"name": "sizing", "steps": [{"name": f"s{n}", "assign": f"v{n}"} | step for n in range(STEPS)]}
    )
    with (
        running(settings) as roles,
        open_pool(settings.database_dsn, max_size=2) as pool,
        psycopg.connect(settings.database_dsn, autocommit=True) as database,
    ):
        while run(pool, "server_facts")[0]["workers_alive"] < 1:
            Event().wait(0.1)
        own = len(pool._pool)
        idle = ask(database, CONNECTIONS) - own
        before, log = ask(database, TABLES), database.execute("SELECT pg_current_wal_lsn()").fetchone()
        broker = StepBroker(settings.redis_url, namespace=settings.namespace)
        requests = [Request(input={"n": n}) for n in range(EXECUTIONS)]
        ids: list[UUID] = [one.execution_id for one in Submitter(pool, broker).submit(workflow, requests)]
        broker.close()
        most = 0
        while ask(database, "SELECT count(*) FROM workflow_executions WHERE status = 'completed'") < len(ids):
            most = max(most, ask(database, CONNECTIONS))
            Event().wait(0.05)
        assert log is not None
        written = ask(database, f"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{log[0]}')")
        database.execute("VACUUM")
        return {
            "memory_mb": {role: memory(process) for role, process in roles.items()},
            "disk_kb_per_execution": round((ask(database, TABLES) - before) / EXECUTIONS / 1024, 1),
            "log_kb_per_execution": round(written / EXECUTIONS / 1024, 1),
            "connections": {"idle": idle, "most": most - own},
        }


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="afu9-sizing-") as name:
        Path(name).chmod(0o711)  # as root, PostgreSQL runs under another account and must reach its data
        with open_embedded(Path(name) / "state") as endpoints:
            migrate(endpoints.database_url)
            settings = Settings(
                database_url=endpoints.database_url, redis_url=endpoints.redis_url, threads=THREADS, drain_seconds=25
            )
            print(json.dumps(measure(settings), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
