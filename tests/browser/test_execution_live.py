"""A run watched in a browser: with a worker of its own process, and while Redis is away."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from orchestrator.broker import StepBroker
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.pool import Pool, open_pool
from persistence.settings import Settings
from tests.browser.conftest import Site, serve
from tests.fleet import bare_server, environment, mcp_config, running_fleet
from tests.integration.test_transitions import WORKER, renew
from tests.live_reader import OneWorker
from tests.outage import OwnServers, own_servers
from tests.workflows import sequence


def test_a_run_goes_from_pending_to_completed_without_a_reload(
    site: Site, settings: Settings, pool: Pool, tmp_path: Path
) -> None:
    sleep = {"tool": "bare.sleep", "params": {"seconds": 0.7}}
    workflow = validate({"name": "slow", "steps": [{"name": f"s{n}", **sleep} for n in range(3)]})
    with closing(StepBroker(settings.redis_url, namespace=settings.namespace)) as broker, bare_server() as url:
        execution_id = Submitter(pool, broker).submit(workflow, [Request()])[0].execution_id
        page = site.open(f"/ui/executions/{execution_id}")
        expect(page.get_by_text("3 steps · 3 pending")).to_be_visible()
        expect(page.locator("#live")).to_have_text("● live")
        page.evaluate("window.unbroken = true")
        page.get_by_text("Why are some not possible?").click()
        page.locator("#act-cancel").focus()
        config = mcp_config(tmp_path, bare={"url": url, "protocol": "jsonrpc"})
        with running_fleet(environment(settings, config), tmp_path, "worker"):
            expect(page.get_by_text("1 running")).to_be_visible(timeout=20_000)
            expect(page.locator("rect[data-grows]")).to_have_count(1)
            assert page.evaluate("document.activeElement.id") == "act-cancel"
            expect(page.locator("#why-not")).to_have_attribute("open", "")
            expect(page.get_by_text("3 steps · 3 completed")).to_be_visible(timeout=20_000)
        expect(page.get_by_role("heading", level=1)).to_contain_text("completed")
        expect(page.locator("[data-grows]")).to_have_count(0)
        expect(page.get_by_role("status")).to_have_text("now completed")  # said aloud
        assert page.evaluate("window.unbroken")


@pytest.fixture(scope="module")
def fragile() -> Iterator[OwnServers]:
    with tempfile.TemporaryDirectory(prefix="afu9-live-page-") as folder, own_servers(Path(folder)) as opened:
        yield opened


def heading(page: Page, word: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_contain_text(word, timeout=6_000)


@pytest.mark.parametrize("prefix", ["", "/x/flow"], ids=["at-root", "under-prefix"])
def test_without_redis_the_page_goes_on_and_says_polling(
    fragile: OwnServers, browser: Browser, tmp_path: Path, prefix: str
) -> None:
    settings = Settings(
        database_url=fragile.endpoints.database_url,
        redis_url=fragile.endpoints.redis_url,
        namespace=tmp_path.name,
        state_dir=tmp_path / "state",
    )
    with (
        open_pool(settings.database_dsn) as pool,
        closing(StepBroker(settings.redis_url, namespace=settings.namespace)) as broker,
        serve(settings, browser, prefix) as site,
    ):
        renew(pool, WORKER)
        submitted = Submitter(pool, broker).submit(sequence(3), [Request(input={"n": 1})])[0]
        worker = OneWorker(pool, broker)
        page = site.open(f"/ui/executions/{submitted.execution_id}")
        expect(page.locator("#live")).to_have_text("● live")
        (second,) = worker.run(submitted.ready[0]).ready
        expect(page.get_by_text("1 completed · 2 pending")).to_be_visible()
        with fragile.down(fragile.valkey):
            away_at = time.monotonic()
            (third,) = worker.run(second).ready
            expect(page.get_by_text("2 completed · 1 pending")).to_be_visible(timeout=6_000)
            expect(page.locator("#live")).to_have_text("◌ polling", timeout=6_000)
            assert time.monotonic() - away_at < 6
            worker.run(third)
            heading(page, "completed")
        expect(page.locator("#live")).to_have_text("● live", timeout=10_000)
