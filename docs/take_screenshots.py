"""Takes the pictures of docs/dashboard.md: `make screenshots`, with Debian's chromium.

Embedded servers, made-up executions of a fixed seed, nothing of this machine on any page. Times and ids are those of the run.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from playwright.sync_api import Browser, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))

from control_center.demo.make_demo_data import make
from control_center.keys import Trust
from orchestrator.roll_up import roll_up
from persistence.embedded import open_embedded
from persistence.migrate import migrate
from persistence.pool import Pool, open_pool, run
from persistence.settings import Settings
from tests.api_server import running_api

FOLDER = Path(__file__).parent / "screenshots"
DAYS, PER_DAY, SEED = 7, 40, 9
WIDE, NARROW = (1280, 800), (360, 740)
NEWEST = "SELECT id FROM workflow_executions WHERE {} ORDER BY created_at DESC LIMIT 1"
FAILED = "status = 'failed' AND title LIKE 'Issue%%' AND error LIKE '%%503%%' AND workflow_id IS NOT NULL"
RETRIED = (
    "status = 'completed' AND title LIKE 'Issue%%' AND EXISTS (SELECT FROM workflow_events e"
    " WHERE e.execution_id = workflow_executions.id AND e.event = 'control' AND e.kind = 'retry')"
)


@dataclass(frozen=True, slots=True)
class Shot:
    name: str
    path: str
    dark: bool = False
    size: tuple[int, int] = WIDE


@contextmanager
def filled() -> Iterator[tuple[str, Pool]]:
    """The address of an API with made-up executions, two workers' leases, and everything counted."""
    with tempfile.TemporaryDirectory(prefix="afu9-pictures-") as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs under another account
        with open_embedded(Path(folder) / "servers", durable=False) as endpoints:
            migrate(endpoints.database_url)
            settings = Settings(
                database_url=endpoints.database_url, redis_url=endpoints.redis_url, state_dir=Path(folder) / "state"
            )
            with open_pool(settings.database_dsn) as pool, running_api(settings, Trust(keys=False)) as address:
                make(pool, settings, DAYS, PER_DAY, SEED)
                while roll_up(pool, 0.0) == 0.0:
                    pass
                for number in (1, 2):
                    lease = {"worker_id": uuid4(), "role": "worker", "pid": 6 + number, "threads": 32}
                    run(pool, "renew_lease", {**lease, "hostname": f"worker-{number}"})
                yield address, pool


def shots(pool: Pool) -> list[Shot]:
    with pool.connection() as connection:
        failed, retried = (
            connection.execute(NEWEST.format(which).encode()).fetchall()[0]["id"] for which in (FAILED, RETRIED)
        )
    return [
        Shot("executions", "/ui/executions"),
        Shot("failure", f"/ui/executions/{failed}"),
        Shot("timeline", f"/ui/executions/{retried}"),
        Shot("compare", f"/ui/compare?b={failed}&previousGood=1"),
        Shot("workflow", "/ui/workflows/fix_issue"),
        Shot("queues", "/ui/queues"),
        Shot("analytics", "/ui/analytics?window=7d", dark=True),
        Shot("cost", "/ui/costs"),
        Shot("tools", "/ui/tools"),
        Shot("inbox", "/ui/inbox"),
        Shot("executions-dark", "/ui/executions?status=failed", dark=True, size=(1280, 600)),
        Shot("failure-narrow", f"/ui/executions/{failed}", size=NARROW),
    ]


def take(browser: Browser, address: str, shot: Shot) -> None:
    width, height = shot.size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if shot.dark else "light",
        reduced_motion="reduce",
        timezone_id="UTC",
        locale="en-GB",
    )
    page = context.new_page()
    page.goto(address + shot.path, wait_until="networkidle")
    expect(page.locator("#live")).not_to_have_text("◌ connecting")
    page.screenshot(path=FOLDER / f"{shot.name}.png", animations="disabled", caret="hide")
    context.close()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with filled() as (address, pool), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        for shot in shots(pool):
            take(browser, address, shot)
        browser.close()
    for path in sorted(FOLDER.glob("*.png")):
        print(f"{path.name:24} {path.stat().st_size / 1024:6.0f} kB")


if __name__ == "__main__":
    main()
