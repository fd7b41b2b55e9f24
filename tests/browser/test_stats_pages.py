"""Queues, analytics and costs in a browser: followed live, read on a narrow screen in both themes, used by keyboard."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from playwright.sync_api import Browser, Page, Request, expect

from persistence.pool import Pool
from persistence.settings import Settings
from tests.browser.conftest import SCRIPT, Site, accessibility_faults, serve
from tests.drive import submit
from tests.integration.test_roll_up import completed, failed, query, roll_all
from tests.integration.test_stats_pages import change, worker
from tests.workflows import sequence

NARROW = {"width": 360, "height": 700}


def assert_good_for_all(page: Page) -> None:
    """In both themes; nothing is wider than the screen."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert accessibility_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_queues_are_followed_and_calls_held_by_keyboard(site: Site, pool: Pool) -> None:
    """Also with names that would be script."""
    page = site.open("/ui/queues", viewport=NARROW)
    expect(page.locator("#live")).to_have_text("● live")
    page.evaluate("window.unbroken = true")
    submit(pool, sequence(1))
    expect(page.get_by_text("and 1 step waits")).to_be_visible(timeout=10_000)
    worker(pool, f"{SCRIPT}.a-host-with-a-rather-long-name.example.com")  # nobody tells of it: the page looks by itself
    expect(page.get_by_role("region", name="Workers").get_by_text("✓ alive")).to_be_visible(timeout=10_000)
    assert page.evaluate("window.unbroken"), "it was loaded anew"
    page.get_by_label("Name").focus()
    page.keyboard.type(SCRIPT)
    page.keyboard.press("Tab")
    page.keyboard.type("the service is away")
    page.keyboard.press("Enter")
    held = page.get_by_role("region", name="Holds").get_by_role("row").filter(has_text=SCRIPT)
    expect(held).to_contain_text("the service is away")
    assert page.url == site.address + "/ui/queues#holds"
    assert_good_for_all(page)
    held.get_by_role("button", name=f"Release the tool {SCRIPT}").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing is held back.")).to_be_visible()


def test_a_hidden_tab_asks_nothing(settings: Settings, browser: Browser) -> None:
    """Whatever its clock says; shown again, it looks at once."""
    with serve(settings, browser) as site:
        page = site.new_page(site)
        page.clock.install()
        page.goto(site.address + "/ui/queues")
        expect(page.locator("#live")).to_have_text("● live")
        asked: list[Request] = []
        page.on("request", lambda request: asked.append(request) if "region=" in request.url else None)
        page.clock.run_for(11_000)
        expect(page.locator("#queue")).to_be_visible()
        assert asked, "it asks while it is seen"
        expect(page.locator(".htmx-request")).to_have_count(0)  # else the clock runs past what they wait
        page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true, configurable: true})")
        page.clock.run_for(300)
        asked.clear()
        page.clock.run_for(59_000)
        assert asked == []
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        with page.expect_request(lambda request: "region=queue" in request.url):
            page.clock.run_for(1_000)


def test_figures_are_drawn_and_have_a_table(site: Site, pool: Pool) -> None:
    now = datetime.now(UTC)
    for hours in (2, 3):
        completed(pool, now - timedelta(hours=hours))
    failed(pool, now - timedelta(hours=2))
    change(pool, "UPDATE workflow_executions SET cost_nanos = 7, title = %s", SCRIPT)
    roll_all(pool)
    query(
        pool,
        "INSERT INTO cost_days (day, workflow, server, tool, slot, calls, unpriced_calls, cost_nanos)"
        " SELECT (now() AT TIME ZONE 'UTC')::date - n, %s, 'a', 'b', 0, 1, 1, 7 FROM generate_series(0, 3) n RETURNING 1",
        SCRIPT,
    )
    page = site.open("/ui/analytics", viewport=NARROW)
    chart = page.locator("svg.bars")
    expect(chart).to_have_attribute(
        "aria-label", "Executions that ended, by status, in the last 24h; the table below has the numbers"
    )
    assert (chart.locator("rect.completed").count(), chart.locator("rect.failed").count()) == (2, 1)
    assert chart.locator("rect.completed").first.evaluate("one => getComputedStyle(one).fill") not in (
        "",
        "rgb(0, 0, 0)",
    )
    page.get_by_text("Throughput as a table").focus()
    page.keyboard.press("Enter")
    assert len(page.get_by_role("region", name="Throughput").locator("tbody tr").all()) == 2
    assert_good_for_all(page)
    page.get_by_role("link", name="sequence").first.click()
    assert page.url == site.address + "/ui/analytics?window=24h&workflow=sequence"
    expect(page.get_by_role("combobox", name="Workflow")).to_have_value("sequence")

    page.goto(site.address + "/ui/costs")
    assert page.locator("svg.bars rect.spent").count() == 4
    page.get_by_text("Days as a table").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Days").locator("tbody tr")).to_have_count(4)
    expect(page.get_by_role("region", name="Costs by workflow")).to_contain_text(SCRIPT)
    assert_good_for_all(page)
