"""What the list of executions costs with a great many of them, as a browser waits for it.

    python benchmarks/dashboard_list.py [EXECUTIONS]        1,000,000 by default; the newest 20,000 have ten steps each

Per filter: the median and the 95th percentile of a whole answer over HTTP, in milliseconds, warm, one caller. Servers are
embedded.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from persistence.embedded import open_embedded
from persistence.migrate import migrate
from persistence.pool import open_pool
from persistence.settings import Settings
from tests.api_server import running_api

MANY = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
REPEATS = 20
DAYS = 90
HASH = "b" * 64
EXECUTIONS = """
INSERT INTO workflow_executions (status, workflow_id, title, triggered_by, labels, error, created_at, started_at,
                                 completed_at, definition_hash, cost_nanos, unpriced_calls)
SELECT s.status, w.id, 'Issue #' || n || ' of ' || w.name, (ARRAY['ada', 'grace', 'ci', 'webhook', 'schedule'])[1 + n %% 5],
       CASE WHEN n %% 3 = 0 THEN jsonb_build_object('team', (ARRAY['shop', 'core'])[1 + n %% 2], 'run', n::text)
            ELSE '{}' END,
       CASE WHEN s.status = 'failed' THEN 'step fetch: HTTP 50' || n %% 10 || ' from host' || n %% 97 END,
       t.at, t.at, CASE WHEN s.status IN ('completed', 'failed', 'cancelled') THEN t.at + interval '5 seconds' END,
       %(hash)s, n, 0
  FROM generate_series(1, %(many)s) n,
       LATERAL (SELECT now() - (%(many)s - n) * interval '1 day' * %(days)s / %(many)s) t(at),
       LATERAL (SELECT CASE WHEN n > %(many)s - 60 THEN 'running' WHEN n %% 20 = 0 THEN 'failed'
                            WHEN n %% 97 = 0 THEN 'cancelled' WHEN n %% 9973 = 0 THEN 'paused'
                            ELSE 'completed' END) s(status),
       LATERAL (SELECT x.id, x.name FROM workflows x WHERE x.version = 1 + CASE WHEN n %% 5000 = 0 THEN 29 ELSE n %% 29 END) w
"""
STEPS = """
INSERT INTO workflow_steps (execution_id, step_name, step_index, status, tool, error_kind)
SELECT e.id, 'step_' || i, i, CASE WHEN e.status = 'failed' AND i = 9 THEN 'failed' ELSE 'completed' END, 'test.echo',
       CASE WHEN e.status = 'failed' AND i = 9 AND e.cost_nanos %% 1000 = 0 THEN 'outcome_unknown' END
  FROM (SELECT * FROM workflow_executions ORDER BY created_at DESC LIMIT 20000) e, generate_series(0, 9) i
"""
FILTERS = (
    "",
    "limit=200",
    "status=running",
    "status=failed",
    "status=paused",
    "status=failed,cancelled",
    "status=failed&window=24h",
    "workflow=w7",
    "workflow=w30",
    "workflow=w30&status=failed",
    "workflow=w7&status=paused",
    "triggeredBy=ada",
    "triggeredBy=ada&status=failed&window=7d",
    "triggeredBy=nobody",
    "window=1h",
    "since=2000-01-01T00:00&until=2000-02-01T00:00",
    "label=team:shop",
    "label=run:600000",
    "label=team:shop&status=failed",
    "label=team:shop&status=paused",
    "workflow=w30&triggeredBy=grace&label=team:core",
    "q=host13",
    "q=nothing-at-all&window=7d",
    "q=nothing-at-all&since=2000-01-01T00:00",
    "needs=decision",
    "needs=decision&triggeredBy=ada&window=24h",
)


def fill(dsn: str) -> None:
    with open_pool(dsn, statement_seconds=3600) as pool, pool.connection() as connection:
        connection.execute(
            "INSERT INTO workflow_definitions (hash, definition, plan) VALUES (%s, '{\"name\": \"w\"}', '[]')", (HASH,)
        )
        connection.execute(
            "INSERT INTO workflows (name, version, definition_hash) SELECT 'w' || n, n, %s FROM generate_series(1, 30) n",
            (HASH,),
        )
        connection.execute(EXECUTIONS, {"many": MANY, "days": DAYS, "hash": HASH})
        connection.execute(STEPS, {})
        connection.execute("VACUUM ANALYZE")


def measured(client: httpx.Client, path: str) -> tuple[list[float], int]:
    """Milliseconds of each answer, and the status."""
    times, status = [], 0
    for number in range(REPEATS + 1):
        begin = time.perf_counter()
        status = client.get(path).status_code
        if number or status != 200:
            times.append((time.perf_counter() - begin) * 1000)
        if status != 200 and number == 2:
            break
    return times, status


def main(say: Callable[[str], None] = print) -> None:
    with tempfile.TemporaryDirectory(prefix="afu9-list-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with open_embedded(folder / "state", durable=False) as endpoints:
            migrate(endpoints.database_url)
            fill(endpoints.database_url)
            settings = Settings(
                database_url=endpoints.database_url, redis_url=endpoints.redis_url, state_dir=folder / "own"
            )
            with running_api(settings) as address, httpx.Client(base_url=address, timeout=30) as client:
                say(f"| filter, of {MANY:,} executions | answer | median ms | p95 ms |\n|---|---|---|---|")
                everything: list[float] = []
                for query in FILTERS:
                    times, status = measured(client, f"/ui/executions?{query}")
                    everything += times if status == 200 else []
                    p95 = statistics.quantiles(times, n=20)[-1]
                    say(f"| {query or 'none'} | {status} | {statistics.median(times):.1f} | {p95:.1f} |")
                say(f"\nall that were answered: p95 {statistics.quantiles(everything, n=20)[-1]:.1f} ms")


if __name__ == "__main__":
    main()
