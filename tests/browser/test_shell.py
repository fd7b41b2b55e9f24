"""What all pages share: keys, the palette, themes and zones, narrow screens, faults, and how they follow what happens."""

from __future__ import annotations

import gzip
import logging
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect

from orchestrator.broker import StepBroker
from orchestrator.submit import Request, Submitter
from persistence.pool import Pool, open_pool
from persistence.settings import Settings
from tests.api_server import running_api
from tests.browser.conftest import Site, accessibility_faults, serve
from tests.browser.test_executions_page import make_rows
from tests.drive import drive, submit
from tests.outage import OwnServers, own_servers
from tests.workflows import FunctionTools, echo, sequence

SHELL_PAGES = ("/ui/executions", "/ui/audit", "/ui/sign-in", "/ui/nothing")


def test_the_list_by_keyboard_alone(site: Site, pool: Pool) -> None:
    make_rows(pool, 3)
    page = site.open("/ui/executions")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="completed 2", exact=True)).to_be_focused()
    page.keyboard.press("x")
    expect(page.get_by_label("Tick completed 2")).to_be_checked()
    page.keyboard.press("k")
    expect(page.get_by_role("link", name="completed 3", exact=True)).to_be_focused()
    page.keyboard.press(".")
    expect(page.get_by_role("button", name="Retry…")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("jxk?t")  # keys are letters in a field
    expect(page.get_by_label("Search")).to_have_value("jxk?t")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("link", name="completed 1", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="completed 1")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("e")
    expect(page).to_have_url(f"{site.address}/ui/executions")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_help_lists_the_keys_and_closes(site: Site, scheme: str) -> None:
    page = site.open("/ui/executions", color_scheme=scheme, timezone_id="Europe/Berlin")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("next, previous row")
    assert accessibility_faults(page) == []
    page.keyboard.press("t")  # off while a dialog is open
    expect(page.locator("#zone")).to_have_text("UTC")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_palette_goes_to_pages_executions_and_ids(site: Site, pool: Pool, scheme: str) -> None:
    wanted = submit(pool, sequence(1), title="Find <i>me</i>")
    page = site.open("/ui/audit", color_scheme=scheme)
    page.keyboard.press("Control+k")
    field = page.locator("#palette-text")
    expect(field).to_be_focused()
    expect(page.get_by_role("option", name="Find <i>me</i>")).to_be_visible()
    assert accessibility_faults(page) == []
    field.fill("exec")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.address}/ui/executions")
    page.keyboard.press("Control+k")
    field.fill(str(wanted)[:20])
    expect(page.get_by_role("option", name="the execution")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.address}/ui/executions/{wanted}")
    page.keyboard.press("Control+k")
    field.fill("find")
    expect(page.get_by_role("option", name="Find <i>me</i>")).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option", name="search for find")).to_have_attribute("aria-selected", "true")


def test_the_content_is_reached_past_the_navigation(site: Site) -> None:
    page = site.open("/ui/executions")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_theme_and_zone_are_remembered(site: Site, pool: Pool) -> None:
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO workflow_executions (status, title, started_at) VALUES"
            " ('completed', 'winter', '2025-03-30 00:59:59+00'), ('completed', 'summer', '2025-03-30 01:00:01+00')"
        )
    page = site.open("/ui/executions", timezone_id="Europe/Berlin", color_scheme="light")
    expect(page.get_by_role("row").filter(has_text="winter")).to_contain_text("2025-03-30 00:59")
    page.keyboard.press("t")
    expect(page.locator("#zone")).to_have_text("Europe/Berlin")
    expect(page.get_by_role("row").filter(has_text="winter")).to_contain_text("2025-03-30 01:59")
    expect(page.get_by_role("row").filter(has_text="summer")).to_contain_text("2025-03-30 03:00")
    page.get_by_role("button", name="Dark or light").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("#zone")).to_have_text("Europe/Berlin")


@pytest.mark.parametrize("path", SHELL_PAGES)
def test_no_page_is_wider_than_a_narrow_screen(site: Site, path: str) -> None:
    page = site.open(path, viewport={"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    header = page.locator("header.bar").bounding_box()
    assert header is not None
    assert header["height"] <= 200
    site.faults.clear()  # the 404 among them


def test_nothing_moves_for_who_wants_no_motion(site: Site, pool: Pool) -> None:
    make_rows(pool, 1, "running")
    page = site.open("/ui/executions", reduced_motion="reduce")
    moving = (
        "[...document.querySelectorAll('*')].filter((one) => getComputedStyle(one).animationName !== 'none').length"
    )
    assert page.evaluate(moving) == 0


def test_pages_work_without_a_script(site: Site, pool: Pool) -> None:
    make_rows(pool, 2, "failed")
    page = site.open("/ui/executions?status=failed", java_script_enabled=False)
    page.get_by_role("textbox", name="Trigger").fill("ada")
    page.get_by_role("button", name="Show").click()
    page.get_by_label("Tick failed 1").check()
    page.get_by_role("button", name="Retry…").click()
    expect(page.get_by_text("None of them takes it")).to_be_visible()


def test_the_first_load_is_small(site: Site, pool: Pool) -> None:
    make_rows(pool, 100, "failed", error="x" * 300)
    body = httpx.get(f"{site.address}/ui/executions").content
    found = re.findall(r'(?:stylesheet" href|script src)="([^"]+)"', body.decode())
    host = site.address.removesuffix("/x/flow")
    parts = [body, *(httpx.get(host + path).content for path in found)]
    assert len(parts) == 3
    assert sum(len(gzip.compress(part)) for part in parts) <= 100 * 1024


def test_faults_are_pages_of_their_kind(site: Site, pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    page = site.open("/ui/bulk")
    expect(page.get_by_role("heading", name="The address does not take this method")).to_be_visible()
    assert accessibility_faults(page) == []
    with pool.connection() as connection:
        connection.execute("ALTER TABLE audit_log RENAME TO audit_log_away")
    with caplog.at_level(logging.ERROR):
        page.goto(f"{site.address}/ui/audit")
    expect(page.get_by_role("heading", name="A fault of ours")).to_be_visible()
    request_id = page.get_by_text("as request").inner_text().split()[-1]
    assert f"request {request_id}" in caplog.text
    assert "audit_log" in caplog.text
    assert "audit_log" not in page.locator("main").inner_text()
    site.faults.clear()  # a browser notes the 405 and the 500


def test_a_query_that_takes_too_long_is_a_page_that_says_so(site: Site, dsn: str) -> None:
    with psycopg.connect(dsn) as other:
        other.execute("LOCK TABLE workflow_executions IN ACCESS EXCLUSIVE MODE")
        page = site.open("/ui/executions")
        expect(page.get_by_role("heading", name="The query took too long")).to_be_visible()
        other.rollback()
    page.get_by_role("link", name="Try again").click()
    expect(page.get_by_role("heading", name="Executions")).to_be_visible()
    site.faults.clear()  # a browser notes the 503


HIDE = """
let hidden = false;
Object.defineProperty(document, "hidden", { get: () => hidden });
window.hide = (value) => { hidden = value; document.dispatchEvent(new Event("visibilitychange")); };
"""


def test_a_hidden_page_asks_for_nothing_and_catches_up(site: Site, pool: Pool) -> None:
    page = site.new_page(site)
    page.add_init_script(HIDE)
    page.goto(f"{site.address}/ui/executions")
    expect(page.locator("#live")).to_have_text("● live")
    page.evaluate("window.hide(true)")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with seen_by_another(site):
        submit(pool, sequence(1), title="While it was hidden")
    assert asked == []
    expect(page.get_by_text("While it was hidden")).to_have_count(0)
    page.evaluate("window.hide(false)")
    expect(page.get_by_role("link", name="While it was hidden")).to_be_visible(timeout=10_000)


@contextmanager
def seen_by_another(site: Site) -> Iterator[None]:
    """Ends when a page that is not hidden shows what happened inside: so there was time to."""
    other = site.open("/ui/executions")
    expect(other.locator("#live")).to_have_text("● live")
    yield
    expect(other.get_by_role("link", name="While it was hidden")).to_be_visible(timeout=10_000)


def test_a_paused_page_asks_for_nothing_until_it_follows_again(site: Site, pool: Pool) -> None:
    page = site.new_page(site)
    with page.expect_websocket() as opened:
        page.goto(f"{site.address}/ui/executions")
    expect(page.locator("#live")).to_have_text("● live")
    with opened.value.expect_event("close"):
        page.keyboard.press("p")
    expect(page.locator("#live")).to_have_text("⏸ paused")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with seen_by_another(site):
        submit(pool, sequence(1), title="While it was hidden")
    assert asked == []
    page.reload()
    expect(page.locator("#live")).to_have_text("⏸ paused")  # remembered
    page.locator("#live").click()
    expect(page.locator("#live")).to_have_text("● live")


def test_a_watched_run_says_aloud_that_it_ended(site: Site, pool: Pool) -> None:
    execution_id = submit(pool, sequence(2))
    page = site.open(f"/ui/executions/{execution_id}")
    expect(page.locator("#live")).to_have_text("● live")
    drive(pool, execution_id, FunctionTools(echo=echo))
    expect(page.get_by_role("status").filter(has_text="now completed")).to_be_visible(timeout=10_000)


def test_the_api_restarts_and_pages_follow_again(settings: Settings, browser: Browser, pool: Pool) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        with running_api(settings) as address:
            page.goto(f"{address}/ui/executions")
            expect(page.locator("#live")).to_have_text("● live")
        port = int(address.rpartition(":")[2])
        expect(page.locator("#live")).to_have_text("◌ polling", timeout=10_000)
        expect(page.get_by_role("heading", name="Executions")).to_be_visible()  # never blank
        submit(pool, sequence(1), title="Meanwhile")
        with running_api(settings, port=port):
            expect(page.locator("#live")).to_have_text("● live", timeout=30_000)
            expect(page.get_by_role("link", name="Meanwhile")).to_be_visible(timeout=10_000)


@pytest.fixture(scope="module")
def mortal() -> Iterator[OwnServers]:
    """Servers that may be killed."""
    with tempfile.TemporaryDirectory(prefix="afu9-pages-") as folder, own_servers(Path(folder)) as opened:
        yield opened


def test_pages_go_on_moving_while_valkey_is_away(mortal: OwnServers, browser: Browser, tmp_path: Path) -> None:
    settings = Settings(
        database_url=mortal.endpoints.database_url,
        redis_url=mortal.endpoints.redis_url,
        namespace=tmp_path.name,
        state_dir=tmp_path / "state",
    )
    with serve(settings, browser) as site, open_pool(settings.database_dsn) as pool:
        broker = StepBroker(settings.redis_url, namespace=settings.namespace)
        (submitted,) = Submitter(pool, broker).submit(sequence(2), [Request(input={"n": 1}, title="Watched")])
        broker.close()
        page = site.open(f"/ui/executions/{submitted.execution_id}")
        expect(page.locator("#live")).to_have_text("● live")
        with mortal.down(mortal.valkey):
            expect(page.locator("#live")).to_have_text("◌ polling", timeout=10_000)
            driver = threading.Thread(target=drive, args=(pool, submitted.execution_id, FunctionTools(echo=echo)))
            driver.start()
            driver.join(30)
            expect(page.get_by_role("heading", level=1)).to_contain_text("completed", timeout=6_000)
        expect(page.locator("#live")).to_have_text("● live", timeout=20_000)


def test_the_database_away_is_a_page_that_says_so(mortal: OwnServers, browser: Browser, tmp_path: Path) -> None:
    settings = Settings(
        database_url=mortal.endpoints.database_url,
        redis_url=mortal.endpoints.redis_url,
        namespace=tmp_path.name,
        state_dir=tmp_path / "state",
    )
    with serve(settings, browser) as site:
        page = site.open("/ui/executions")
        expect(page.get_by_role("heading", name="Executions")).to_be_visible()
        with mortal.down(mortal.postgres):
            page.goto(f"{site.address}/ui/executions")
            expect(page.get_by_role("heading", name="The database does not answer")).to_be_visible(timeout=20_000)
        expect_again(page)
        site.faults.clear()  # a browser notes the 503


def expect_again(page: Page) -> None:
    page.get_by_role("link", name="Try again").click()
    expect(page.get_by_role("heading", name="Executions")).to_be_visible(timeout=20_000)
