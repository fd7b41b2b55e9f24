"""Registered workflows in a browser: the grid of runs, and starting a run."""

from __future__ import annotations

import re
from uuid import UUID

from playwright.sync_api import Page, expect

from persistence.executions import require_execution
from persistence.pool import Pool, run
from tests.browser.conftest import SCRIPT, Site, accessibility_faults
from tests.drive import drive
from tests.integration.test_workflow_pages import SCHEMA, bad, good, register, start


def test_the_grid_is_moved_in_by_keys_and_follows_what_happens(site: Site, pool: Pool) -> None:
    """In the light and the dark, and on a narrow screen."""
    register(pool)
    start(pool, good(), title="Run 0")
    start(pool, bad(), title=f"Run 1 {SCRIPT}")
    running = start(pool, title="Run 2")
    page = site.open("/ui/workflows", color_scheme="light")
    assert accessibility_faults(page) == []
    page.get_by_role("rowheader", name="greet").get_by_role("link").click()
    expect(page.locator("#live")).to_have_text("● live")
    expect(page.locator("svg.grid a.cell.pending")).to_have_count(2)
    drive(pool, running, good())
    expect(page.locator("svg.grid a.cell.completed")).to_have_count(5, timeout=10_000)
    assert accessibility_faults(page) == []
    page.emulate_media(color_scheme="dark")
    assert accessibility_faults(page) == []
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("link", name="Skip the grid").focus()
    page.keyboard.press("Tab")
    assert "tell of Run 2" in focused(page)
    page.keyboard.press("ArrowLeft")
    assert "tell of Run 1" in focused(page)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert focused(page).startswith(f"Run 1 {SCRIPT}: failed")
    page.keyboard.press("Tab")
    assert "Run" not in focused(page)
    page.locator("svg.grid a.cell.failed").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("tell")


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.querySelector?.('title')?.textContent ?? ''"))


def test_a_workflow_is_held_released_and_run_by_forms(site: Site, pool: Pool) -> None:
    register(pool, inputSchema=SCHEMA)
    page = site.open("/ui/workflows/greet", color_scheme="dark")
    page.get_by_text("Hold…").click()
    page.get_by_label("Reason, for people").fill(f"the shop {SCRIPT}")
    assert accessibility_faults(page) == []
    page.get_by_role("button", name="Hold greet").click()
    expect(page.get_by_text(f"the shop {SCRIPT}")).to_be_visible()
    page.get_by_text("Release…").click()
    page.get_by_role("button", name="Release greet").click()
    expect(page.get_by_text("Hold…")).to_be_visible()
    assert run(pool, "list_holds") == []
    page.get_by_role("link", name="Run…").click()
    page.get_by_label("n (needed)").fill("seven")
    page.get_by_label("tags").fill("{")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Run", exact=True).press("Enter")
    expect(page.get_by_label("n (needed)")).to_have_accessible_description(re.compile("not a number"))
    expect(page.get_by_label("tags")).to_have_accessible_description(re.compile("not JSON"))
    assert accessibility_faults(page) == []
    site.faults.clear()  # a browser notes the 422 on its console
    page.get_by_label("n (needed)").fill("9007199254740993")
    page.get_by_label("tags").fill('["a"]')
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url("**/ui/executions/*")
    row = require_execution(pool, UUID(page.url.rpartition("/")[2]))
    assert row["input"] == {"n": 2**53 + 1, "mode": "slow", "tags": ["a"], f"odd {SCRIPT}": "two\nlines"}
