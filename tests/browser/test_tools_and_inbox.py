"""Servers, tools and what waits for a person, in a browser."""

from __future__ import annotations

from playwright.sync_api import expect

from persistence.pool import Pool, run
from tests.browser.conftest import Site, accessibility_faults
from tests.drive import drive
from tests.integration.test_inbox_page import undecided
from tests.integration.test_tools_page import listed
from tests.workflows import FunctionTools, echo


def test_a_tool_is_held_and_what_waits_is_decided(site: Site, pool: Pool) -> None:
    """By keys, in the light and the dark, and on a narrow screen."""
    listed(pool, "test", "echo", input_schema={"type": "object"}, description="says " * 50 + "x" * 200)
    run(pool, "note_server_error", {"server": "test", "error": "refused " + "x" * 200})
    page = site.open("/ui/tools", color_scheme="light")
    page.get_by_text("Input schema").press("Enter")
    expect(page.get_by_text('"type": "object"')).to_be_visible()
    card = page.locator("article")
    card.get_by_text("Hold…").press("Enter")
    card.get_by_label("Reason, for people").fill("broken")
    assert accessibility_faults(page) == []
    page.emulate_media(color_scheme="dark")
    assert accessibility_faults(page) == []
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.keyboard.press("Enter")
    expect(card.get_by_text("held by anonymous")).to_be_visible()
    page.get_by_role("link", name="Inbox").click()
    expect(page.locator("#live")).to_have_text("● live")
    run(pool, "release_hold", {"kind": "tool", "name": "test.echo"})
    execution_id = undecided(pool)
    expect(page.get_by_role("rowheader", name="step_0")).to_be_visible(timeout=10_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert accessibility_faults(page) == []
    page.emulate_media(color_scheme="light")
    assert accessibility_faults(page) == []
    page.get_by_role("link", name="Decide…").press("Enter")
    page.get_by_label("skip: go on without it").check()
    page.get_by_role("button", name="Decide now").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("something else was chosen")
    page.get_by_role("button", name="Decide now").press("Enter")
    page.wait_for_url(f"**/ui/executions/{execution_id}")
    drive(pool, execution_id, FunctionTools(echo=echo))
    page.goto(f"{site.address}/ui/inbox")
    expect(page.get_by_text("Nothing waits for a person")).to_be_visible()
    site.faults.clear()  # the 409
