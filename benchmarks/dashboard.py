"""What an execution's page costs: 50, 500, 2,000 and 5,000 steps, and one with an output of 5 MB.

For each page: time of the server (median and worst of ten, the request included, on loopback), the processor time of this
process for one request, bytes as they are and as gzip would send them, statements, and the time from the click until all is
loaded and painted in Chromium, if there is one, by the browser's own clock (what drives the browser takes longer than the
page). Servers are embedded; nothing else runs.
"""

from __future__ import annotations

import gzip
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

sys.path.insert(0, str(Path(__file__).parent.parent))

from control_center.keys import Trust
from persistence import pool as pools
from persistence.embedded import open_embedded
from persistence.executions import create_execution
from persistence.migrate import migrate
from persistence.pool import Pool, open_pool
from persistence.settings import Settings
from tests.api_server import running_api
from tests.drive import submit
from tests.workflows import sequence

SIZES = (50, 500, 2000, 5000)
TIMES = 10
TABS = ("timeline", "steps", "graph", "history", "data", "cost", "json")
PAINTED = """() => Math.max(performance.getEntriesByType("navigation")[0].loadEventEnd,
    ...performance.getEntriesByType("paint").map((one) => one.startTime))"""
COMPLETE = """
UPDATE workflow_steps SET status = 'completed', attempt = 1, dispatch_after = NULL, completed_at = e.at + interval '900 ms',
       started_at = e.at + interval '100 ms', claimed_at = e.at + interval '100 ms', duration_ms = 800,
       output = '{"ok": true}'
  FROM (SELECT id AS step, now() - interval '2 hours' + step_index * interval '1 second' AS at FROM workflow_steps) e
 WHERE id = e.step AND execution_id = %(id)s
"""
END = """
UPDATE workflow_executions SET status = 'failed', error = 'the last step failed', started_at = now() - interval '2 hours',
       completed_at = now(), output = %(output)s WHERE id = %(id)s
"""


def make_run(pool: Pool, steps: int) -> UUID:
    execution_id = submit(pool, sequence(steps))
    with pool.connection() as connection:
        connection.execute(COMPLETE, {"id": execution_id})
        connection.execute(
            "UPDATE workflow_steps SET status = 'failed', error = 'HTTP 503', error_kind = 'tool_error'"
            " WHERE execution_id = %s AND step_index = %s",
            (execution_id, steps - 1),
        )
        connection.execute(END, {"id": execution_id, "output": None})
    return execution_id


def make_large(pool: Pool) -> UUID:
    execution_id = create_execution(pool, None, {}, {})
    with pool.connection() as connection:
        connection.execute(END, {"id": execution_id, "output": json.dumps({"text": "x" * 5_000_000})})
    return execution_id


@contextmanager
def counted() -> Iterator[list[str]]:
    """The names of the queries that run meanwhile, in this process."""
    names: list[str] = []
    whole = pools.statement

    def noting(name: str, *rest: Any) -> Any:
        names.append(name)
        return whole(name, *rest)

    pools.statement = noting
    try:
        yield names
    finally:
        pools.statement = whole


def on_screen(address: str) -> str:
    chromium = shutil.which("chromium")
    if chromium is None:
        return "–"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        taken = []
        for _ in range(6):
            page.goto(address)
            page.locator("#main").evaluate("one => one.getBoundingClientRect().height")  # laid out
            taken.append(page.evaluate(PAINTED))
        browser.close()
    return f"{statistics.median(taken[1:]):.0f}"


def measure(name: str, address: str, *, shown: bool = True) -> None:
    with httpx.Client(timeout=60) as client:
        body = client.get(address).raise_for_status().content
        with counted() as names:
            client.get(address)
        taken, burnt = [], time.process_time()
        for _ in range(TIMES):
            begin = time.monotonic()
            client.get(address)
            taken.append((time.monotonic() - begin) * 1000)
        burnt = (time.process_time() - burnt) * 1000 / TIMES
    shown_ms = on_screen(address) if shown else "–"
    times = f"{statistics.median(taken):>8.0f} {max(taken):>8.0f} {burnt:>8.0f} {shown_ms:>10}"
    print(f"{name:24} {times} {len(body) / 1024:>8.0f} {len(gzip.compress(body)) / 1024:>8.1f} {len(names):>10}")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="afu9-bench-") as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs under another account
        with open_embedded(Path(folder) / "servers") as endpoints:
            migrate(endpoints.database_url)
            settings = Settings(
                database_url=endpoints.database_url,
                redis_url=endpoints.redis_url,
                namespace="bench",
                state_dir=Path(folder) / "state",
            )
            with open_pool(settings.database_dsn) as pool, running_api(settings, Trust(keys=False)) as url:
                head = f"{'ms':>8} {'worst':>8} {'CPU':>8} {'on screen':>10} {'KB':>8} {'KB gz':>8} {'statements':>10}"
                print(f"{'':24} {head}")
                for size in SIZES:
                    address = f"{url}/ui/executions/{make_run(pool, size)}"
                    for tab in TABS if size == 500 else ("timeline", "steps"):
                        measure(f"{size} steps, {tab}", f"{address}?tab={tab}")
                large = f"{url}/ui/executions/{make_large(pool)}"
                measure("output of 5 MB, data", f"{large}?tab=data")
                measure("output of 5 MB, file", f"{large}/download/output", shown=False)


if __name__ == "__main__":
    main()
