"""What all pages share: keys, the palette, themes and zones."""

from __future__ import annotations

from playwright.sync_api import expect

from persistence.pool import Pool
from tests.browser.conftest import Site, accessibility_faults_by_day_and_night
from tests.drive import submit
from tests.fill import make_rows
from tests.workflows import sequence


def test_the_list_by_keyboard_alone(site: Site, pool: Pool) -> None:
    make_rows(pool, 25)
    page = site.open("/ui/executions?limit=20")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("]")
    expect(page.get_by_role("link", name="completed 5", exact=True)).to_be_visible()
    page.keyboard.press("[")
    expect(page.get_by_role("link", name="completed 25", exact=True)).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="completed 24", exact=True)).to_be_focused()
    page.keyboard.press("x")
    expect(page.get_by_label("Tick completed 24")).to_be_checked()
    page.keyboard.press("k")
    expect(page.get_by_role("link", name="completed 25", exact=True)).to_be_focused()
    page.keyboard.press(".")
    expect(page.get_by_role("button", name="Retry…")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("jxk?t")  # keys are letters in a field
    expect(page.get_by_label("Search")).to_have_value("jxk?t")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("link", name="completed 25", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="completed 25")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("e")
    expect(page).to_have_url(f"{site.address}/ui/executions")


def test_the_palette_goes_to_pages_executions_and_ids_and_the_help_tells_keys(site: Site, pool: Pool) -> None:
    wanted = submit(pool, sequence(1), title="Find <i>me</i>")
    page = site.open("/ui/audit", timezone_id="Europe/Berlin")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("next, previous row")
    assert accessibility_faults_by_day_and_night(page) == []
    page.keyboard.press("t")  # off while a dialog is open
    expect(page.locator("#zone")).to_have_text("UTC")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Control+k")
    field = page.locator("#palette-text")
    expect(field).to_be_focused()
    expect(page.get_by_role("option", name="Find <i>me</i>")).to_be_visible()
    assert accessibility_faults_by_day_and_night(page) == []
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


def test_theme_and_zone_are_remembered_across_a_change_of_the_clock(site: Site, pool: Pool) -> None:
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO workflow_executions (status, title, started_at) VALUES"
            " ('completed', 'winter', '2025-03-30 00:59:59+00'), ('completed', 'summer', '2025-03-30 01:00:01+00')"
        )
    page = site.open("/ui/executions", timezone_id="Europe/Berlin", color_scheme="light", reduced_motion="reduce")
    expect(page.get_by_role("row").filter(has_text="winter")).to_contain_text("2025-03-30 00:59")
    page.keyboard.press("t")
    expect(page.locator("#zone")).to_have_text("Europe/Berlin")
    expect(page.get_by_role("row").filter(has_text="winter")).to_contain_text("2025-03-30 01:59")
    expect(page.get_by_role("row").filter(has_text="summer")).to_contain_text("2025-03-30 03:00")
    moving = (
        "[...document.querySelectorAll('*')].filter((one) => getComputedStyle(one).animationName !== 'none').length"
    )
    assert page.evaluate(moving) == 0
    page.get_by_role("button", name="Dark or light").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("#zone")).to_have_text("Europe/Berlin")
