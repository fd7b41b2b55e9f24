"""The HTTP API at a million executions: each kind of page and the detail, as the server takes for them; and submissions.

    python benchmarks/api_scale.py [EXECUTIONS]         1,000,000 by default, five steps each, loaded by COPY

Prints median and 95th percentile in the server (from the request's arrival to its answer, measured inside the process,
so that the client on the same cores plays no part), and submissions per second through HTTP from another process: one
client, sixteen clients, and batches. Servers are embedded, with fsync and synchronous_commit on.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from control_center.api.app import make_app
from control_center.keys import Trust
from control_center.serve_api import listen
from orchestrator.plan import definition_hash
from orchestrator.submit import Submitter
from orchestrator.validate import validate
from persistence.embedded import open_embedded
from persistence.migrate import migrate
from persistence.pool import open_pool
from persistence.settings import Settings

EXECUTIONS = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdecimal() else 1_000_000
STEPS = 5  # STEP_ROWS says so too
WORKFLOWS = 20
REPEATS = 60
HERE = Path(__file__).parent

LOAD_EXECUTIONS = """
INSERT INTO workflow_executions (id, workflow_id, status, input, output, context, started_at, completed_at, error,
                                 triggered_by, created_at, updated_at, definition_hash, title, labels)
SELECT time_ordered_uuid(), w.ids[1 + n %% %(workflows)s], s.status, '{"n": 1}', '{"v": {"ok": true}}', '{}', t.at,
       t.at + interval '2 s',
       CASE WHEN s.status = 'failed' THEN 'step s3: the server said no (' || n %% 97 || ')' END, 'user' || n %% 50,
       t.at, t.at + interval '2 s', %(hash)s, 'order ' || n,
       CASE WHEN n %% 10 = 0 THEN jsonb_build_object('team', 'team' || n %% 7) ELSE '{}' END
  FROM generate_series(%(first)s::int, %(last)s::int) n,
       LATERAL (SELECT now() - (%(total)s - n) * interval '2.5 seconds' AS at) t,
       LATERAL (SELECT CASE WHEN n %% 50 = 0 THEN 'failed' WHEN n %% 997 = 0 THEN 'cancelled'
                            ELSE 'completed' END AS status) s,
       (SELECT array_agg(id ORDER BY name) AS ids FROM workflows) w
"""
STEP_ROWS = """
SELECT gen_random_uuid(), e.id, ('s' || i)::varchar, i, 'completed'::varchar, '{"n": 1}'::jsonb, '{"ok": true}'::jsonb,
       e.started_at, e.completed_at, 400, 0, e.created_at, e.updated_at, 'test.echo'::text, 1
  FROM workflow_executions e, generate_series(0, 4) i
"""
COLUMNS = (
    "id, execution_id, step_name, step_index, status, input, output, started_at, completed_at, duration_ms, retry_count,"
    " created_at, updated_at, tool, attempt"
)


def load(dsn: str) -> None:
    """A million executions over a month, and their steps."""
    flow = {"steps": [{"name": f"s{n}", "tool": "test.echo", "params": {"n": "${input.n}"}} for n in range(STEPS)]}
    with open_pool(dsn) as pool:
        submitter = Submitter(pool, None)
        for number in range(WORKFLOWS):
            submitter.register(validate({"name": f"flow_{number:02}", **flow}))
        digest = definition_hash(validate({"name": "flow_00", **flow}))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        for first in range(1, EXECUTIONS + 1, 50_000):
            bounds = {"first": first, "last": min(first + 49_999, EXECUTIONS), "total": EXECUTIONS}
            connection.execute(LOAD_EXECUTIONS, bounds | {"hash": digest, "workflows": WORKFLOWS})
        # Steps go from the server through COPY and back: nothing else is quick enough.
        with psycopg.connect(dsn, autocommit=True) as writer:
            writer.execute("SET synchronous_commit = off")
            with (
                connection.cursor().copy(f"COPY ({STEP_ROWS}) TO STDOUT (FORMAT binary)") as source,
                writer.cursor().copy(f"COPY workflow_steps ({COLUMNS}) FROM STDIN (FORMAT binary)") as target,
            ):
                for block in source:
                    target.write(block)
        connection.execute("VACUUM (ANALYZE) workflow_executions")
        connection.execute("VACUUM (ANALYZE) workflow_steps")


class Clock:
    """Times every request where it is answered."""

    def __init__(self, app: ASGIApp, seconds: list[float]):
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin = time.perf_counter()
        await self._app(scope, receive, send)
        if scope["type"] == "http":
            self._seconds.append(time.perf_counter() - begin)


def serve(settings: Settings) -> Iterator[tuple[str, list[float]]]:
    seconds: list[float] = []
    app = Clock(make_app(settings, Trust(keys=False)), seconds)
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            signal.sigtimedwait([], 0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seconds
        server.should_exit = True
        thread.join()


def pages(api: httpx.Client, seconds: list[float]) -> dict[str, dict[str, float]]:
    """Each kind of page, first and deep, with its figures."""
    listing = "/api/workflow/executions"
    since = api.get(listing, params={"limit": 1}).json()["executions"][0]["createdAt"]
    filters: dict[str, dict[str, Any]] = {
        "no filter": {},
        "status=failed": {"status": "failed"},
        "status=cancelled": {"status": "cancelled"},
        "status=failed,cancelled": {"status": "failed,cancelled"},
        "status=running (none)": {"status": "running"},
        "workflow": {"workflow": "flow_07"},
        "triggeredBy": {"triggeredBy": "user7"},
        "triggeredBy (none)": {"triggeredBy": "nobody"},
        "label": {"label": "team:team3"},
        "label (none)": {"label": "team:none"},
        "until": {"until": since},
        "workflow and status": {"workflow": "flow_07", "status": "completed"},
        "text, 2 days": {"q": "said no (42)"},
        "text, 2 days (none)": {"q": "no such text"},
    }
    results = {}
    for name, query in filters.items():
        results[name] = measure(api, seconds, name, [(listing, query)] * REPEATS)
        deep, cursor = dict(query), None
        for _ in range(20):
            answer = api.get(listing, params={**query, "limit": 500, **({"cursor": cursor} if cursor else {})}).json()
            cursor = answer.get("nextCursor")
            if cursor is None:
                break
        if cursor is not None:
            deep["cursor"] = cursor
            results[f"{name}, 10,000 rows deep"] = measure(
                api, seconds, f"{name}, 10,000 rows deep", [(listing, deep)] * REPEATS
            )
    ids = [row["id"] for row in api.get(listing, params={"limit": 500, "status": "failed"}).json()["executions"]]
    details = [(f"/api/workflow/execution/{execution_id}", {}) for execution_id in ids[:200]]
    results["detail"] = measure(api, seconds, "detail", details)
    return results


def measure(
    api: httpx.Client, seconds: list[float], name: str, asked: list[tuple[str, dict[str, Any]]]
) -> dict[str, float]:
    for path, query in asked[:3]:
        api.get(path, params=query)
    seconds.clear()
    statuses = {api.get(path, params=query).status_code for path, query in asked}
    ordered = sorted(seconds)
    figures = {"median_ms": statistics.median(ordered) * 1000, "p95_ms": ordered[int(len(ordered) * 0.95)] * 1000}
    print(
        f"{name:<46} median {figures['median_ms']:8.2f} ms   p95 {figures['p95_ms']:8.2f} ms   {statuses}", flush=True
    )
    return figures


def submissions(url: str) -> dict[str, float]:
    """From a process of its own: this one serves."""
    answer = subprocess.run([sys.executable, __file__, "submit", url], capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(answer.stdout)
    for name, value in figures.items():
        print(f"{name:<46} {value:10.0f} executions/s")
    return figures


def submit(url: str) -> dict[str, float]:
    wish = {"workflow": "flow_00", "input": {"n": 1}}
    path = "/api/workflow/executions"

    def rate(count: int, clients: int, body: dict[str, Any], target: str, each: int) -> float:
        def work(share: int) -> None:
            with httpx.Client(base_url=url, timeout=30) as client:
                for _ in range(share):
                    assert client.post(target, json=body).status_code == 202

        begin = time.perf_counter()
        with ThreadPoolExecutor(clients) as threads:
            list(threads.map(work, [count // clients] * clients))
        return count // clients * clients * each / (time.perf_counter() - begin)

    rate(200, 4, wish, path, 1)
    batch = {"workflow": "flow_00", "requests": [{"input": {"n": n}} for n in range(1000)]}
    return {
        "submissions, one client": rate(1500, 1, wish, path, 1),
        "submissions, sixteen clients": rate(4000, 16, wish, path, 1),
        "submissions, batches of 1,000, two clients": rate(40, 2, batch, f"{path}/batch", 1000),
    }


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="afu9-bench-") as folder:
        Path(folder).chmod(0o711)
        with open_embedded(Path(folder) / "state") as endpoints:
            migrate(endpoints.database_url)
            begin = time.perf_counter()
            load(endpoints.database_url)
            print(f"{EXECUTIONS:,} executions and {EXECUTIONS * STEPS:,} steps in {time.perf_counter() - begin:.0f} s")
            settings = Settings(
                database_url=endpoints.database_url, redis_url=endpoints.redis_url, state_dir=Path(folder)
            )
            for url, seconds in serve(settings):
                with httpx.Client(base_url=url, timeout=30) as api:
                    results: dict[str, Any] = {"executions": EXECUTIONS, "pages": pages(api, seconds)}
                results["submissions"] = submissions(url)
            (HERE / "api_scale.json").write_text(json.dumps(results, indent=2) + "\n")
            worst = max(figures["p95_ms"] for figures in results["pages"].values())
            print(f"{'the slowest p95 of all':<46} {worst:33.2f} ms")


if __name__ == "__main__":
    if sys.argv[1:2] == ["submit"]:
        os.environ.pop("AFU9_URL", None)
        print(json.dumps(submit(sys.argv[2])))
    else:
        main()
