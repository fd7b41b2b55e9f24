"""Two executions beside each other in a browser."""

from __future__ import annotations

from playwright.sync_api import expect

from persistence.pool import Pool
from tests.browser.conftest import SCRIPT, Site, accessibility_faults, failing
from tests.drive import drive, submit
from tests.workflows import FunctionTools, echo, sequence


def test_what_is_asked_for_is_compared_and_followed_to_its_end(site: Site, pool: Pool) -> None:
    """By the form, in the dark and the light, and on a narrow screen."""
    a, b = submit(pool, sequence(3), title=f"A {SCRIPT}"), submit(pool, sequence(3))
    drive(pool, a, FunctionTools(echo=failing))
    page = site.open("/ui/compare", color_scheme="dark")
    page.get_by_label("A, what it is compared with").fill(str(a))
    page.get_by_label("B, what is looked at").fill(str(b)[:30])
    assert accessibility_faults(page) == []
    page.keyboard.press("Enter")
    expect(page.get_by_label("B", exact=True)).to_contain_text("running")
    expect(page.get_by_label("A", exact=True)).to_contain_text(f"A {SCRIPT}")
    expect(page.locator("#live")).to_have_text("● live")
    drive(pool, b, FunctionTools(echo=echo))
    expect(page.get_by_label("B", exact=True)).to_contain_text("completed", timeout=10_000)
    assert accessibility_faults(page) == []
    page.emulate_media(color_scheme="light")
    assert accessibility_faults(page) == []
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("link", name="Swap").click()
    expect(page.get_by_label("A", exact=True)).to_contain_text("completed")
