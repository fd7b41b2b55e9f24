"""The list of executions in a browser: what it holds while it is read, and what it sends."""

from __future__ import annotations

import httpx
from playwright.sync_api import Browser, Page, expect

from control_center.keys import Trust, create_key
from persistence.executions import create_execution
from persistence.pool import Pool
from persistence.settings import Settings
from tests.browser.conftest import SCRIPT, Site, accessibility_faults_by_day_and_night, serve
from tests.drive import drive, submit
from tests.fill import make_rows, tell
from tests.workflows import FunctionTools, echo, sequence


def titles(page: Page) -> list[str]:
    return page.locator("[data-row] td:nth-child(3) a").all_inner_texts()


def test_what_ran_is_listed(site: Site, pool: Pool) -> None:
    drive(pool, submit(pool, sequence(3), title=f"A {SCRIPT} title"), FunctionTools(echo=echo))
    make_rows(pool, 3, "failed", title="x" * 200, error=f"{SCRIPT} " + "y" * 200)
    page = site.open("/")
    row = page.get_by_role("row").filter(has_text=f"A {SCRIPT} title")
    expect(row).to_contain_text("completed")
    expect(row).to_contain_text("3/3")
    assert accessibility_faults_by_day_and_night(page) == []
    page.get_by_text("More", exact=True).click()
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.goto(f"{site.address}/ui/executions?q=nothing-like-it")
    expect(page.locator(".empty")).to_contain_text("in the last 2 days only")
    expect(page.locator(".empty").get_by_role("link", name="look in the last 7 days")).to_be_visible()
    assert accessibility_faults_by_day_and_night(page) == []


def test_a_list_without_rows_says_how_to_begin(site: Site) -> None:
    page = site.open("/ui/executions")
    expect(page.get_by_text("afu9 run FILE")).to_be_visible()
    expect(page.get_by_text("afu9 demo-data")).to_be_visible()
    assert accessibility_faults_by_day_and_night(page) == []


def test_an_unknown_address_is_a_page_that_says_so(site: Site) -> None:
    page = site.open("/ui/nothing")
    expect(page.get_by_role("heading", name="There is no such thing")).to_be_visible()
    site.faults.clear()  # a browser notes the 404 on its console


def test_the_list_follows_what_is_submitted(site: Site, pool: Pool, settings: Settings) -> None:
    page = site.open("/ui/executions")
    expect(page.locator("#live")).to_have_text("● live")
    tell(settings, submit(pool, sequence(2), title="Later than the page"))
    expect(page.get_by_role("link", name="Later than the page")).to_be_visible(timeout=10_000)


def test_filters_are_chosen_in_the_form_and_taken_away_one_by_one(site: Site, pool: Pool) -> None:
    make_rows(pool, 1, "failed")
    make_rows(pool, 1, "running")
    make_rows(pool, 1, "completed")
    page = site.open("/ui/executions", timezone_id="Pacific/Auckland")
    page.get_by_text("Status: any").click()
    for name in ("failed", "running"):
        page.get_by_role("checkbox", name=name, exact=True).check()
    page.get_by_role("textbox", name="Trigger").fill("ada")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Since (UTC)").fill("2020-01-02T03:04")
    page.get_by_role("button", name="Show").click()
    filters = page.get_by_label("Active filters")
    expect(filters.get_by_role("link")).to_have_count(5)
    expect(page.get_by_label("Since (UTC)")).to_have_value("2020-01-02T03:04")
    assert sorted(titles(page)) == ["failed 1", "running 1"]
    filters.get_by_role("link", name="status: failed").click()
    expect(page.locator("[data-row]")).to_have_count(1)
    expect(filters.get_by_role("link", name="since 2020-01-02 03:04 UTC")).to_be_visible()
    filters.get_by_role("link", name="clear").click()
    expect(page.locator("[data-row]")).to_have_count(3)


def test_rows_stay_while_some_are_ticked_or_typed_for(site: Site, pool: Pool, settings: Settings) -> None:
    """What is there is brought up to date in its place; what is new is counted, and comes by a click."""
    watched = submit(pool, sequence(2), title="Watched")
    page = site.open("/ui/executions")
    expect(page.locator("#live")).to_have_text("● live")
    tick = page.get_by_label("Tick Watched")
    tick.check()
    page.locator("#main").focus()
    page.mouse.move(0, 0)
    before = tick.bounding_box()
    tell(settings, submit(pool, sequence(1), title="New 1"))
    drive(pool, watched, FunctionTools(echo=echo))
    tell(settings, watched)
    expect(page.locator(f"#e-{watched}")).to_contain_text("completed", timeout=10_000)
    expect(page.get_by_role("button", name="1 new")).to_be_visible(timeout=10_000)
    expect(page.get_by_role("link", name="New 1")).to_have_count(0)
    assert tick.bounding_box() == before
    expect(tick).to_be_checked()
    page.get_by_role("button", name="1 new").click()
    expect(page.get_by_role("link", name="New 1")).to_be_visible()
    page.get_by_label("Search").press_sequentially("half a wor")
    tell(settings, submit(pool, sequence(1), title="New 2"))
    expect(page.get_by_role("button", name="1 new")).to_be_visible(timeout=10_000)
    page.keyboard.type("d")
    expect(page.get_by_label("Search")).to_have_value("half a word")


def test_rows_stay_under_the_pointer_and_when_scrolled(site: Site, pool: Pool, settings: Settings) -> None:
    make_rows(pool, 50)
    page = site.open("/ui/executions", viewport={"width": 1000, "height": 500})
    expect(page.locator("#live")).to_have_text("● live")
    page.get_by_role("link", name="completed 50", exact=True).hover()
    tell(settings, submit(pool, sequence(1), title="New 1"))
    expect(page.get_by_role("button", name="1 new")).to_be_visible(timeout=10_000)
    page.mouse.move(0, 0)  # nobody reads: they come
    expect(page.get_by_role("link", name="New 1")).to_be_visible()
    page.evaluate("window.scrollTo(0, 600)")
    tell(settings, submit(pool, sequence(1), title="New 2"))
    expect(page.get_by_role("button", name="1 new")).to_be_visible(timeout=10_000)
    page.get_by_role("button", name="1 new").click()
    expect(page.get_by_role("link", name="New 2")).to_be_in_viewport()


HIDE = """
let hidden = false;
Object.defineProperty(document, "hidden", { get: () => hidden });
window.hide = (value) => { hidden = value; document.dispatchEvent(new Event("visibilitychange")); };
"""


def test_a_hidden_or_paused_page_sends_nothing_and_catches_up(site: Site, pool: Pool, settings: Settings) -> None:
    """Another page shows what happens meanwhile: so there was time to."""
    page, other = site.new_page(site), site.open("/ui/executions")
    sent: list[object] = []
    page.on("request", lambda request: sent.append(request.url))
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
    page.add_init_script(HIDE)
    page.goto(f"{site.address}/ui/executions")
    for away, back in (("window.hide(true)", "window.hide(false)"), ("window.hide(false)", "window.hide(false)")):
        expect(page.locator("#live")).to_have_text("● live")
        if away == back:
            page.keyboard.press("p")
            expect(page.locator("#live")).to_have_text("‖ paused")
        page.evaluate(away)
        sent.clear()
        for title in (f"First, {away}", f"Second, {away}"):
            tell(settings, submit(pool, sequence(1), title=title))
            expect(other.get_by_role("link", name=title)).to_be_visible(timeout=10_000)
        assert sent == []
        expect(page.get_by_role("link", name=title)).to_have_count(0)
        page.evaluate(back)
        if away == back:
            page.reload()
            expect(page.locator("#live")).to_have_text("‖ paused")  # remembered
            page.locator("#live").click()
        expect(page.get_by_role("link", name=title)).to_be_visible(timeout=10_000)


def test_a_fault_is_no_region(site: Site, pool: Pool) -> None:
    """Who watches what is removed is told so, and whoever asks for a region of nothing gets a page."""
    execution_id = create_execution(pool, None, {}, {})
    page = site.open(f"/ui/executions/{execution_id}")
    expect(page.locator("#live")).to_have_text("● live")
    with pool.connection() as connection:
        connection.execute("DELETE FROM workflow_executions")
    page.evaluate("afu9.refreshAll()")
    expect(page.get_by_role("heading", name="There is no such thing")).to_be_visible()
    answer = httpx.get(f"{site.address}/ui/executions/{execution_id}?region=body")
    assert (answer.status_code, "There is no such thing" in answer.text) == (404, True)
    site.faults.clear()  # a browser notes the 404 on its console


def test_signing_in_leads_back(settings: Settings, browser: Browser, pool: Pool) -> None:
    key = create_key(pool, "ada", "viewer", None)
    with serve(settings, browser, prefix="/x/flow", trust=Trust(keys=True)) as guarded:
        page = guarded.open("/ui/executions?status=failed")
        page.get_by_label("Key").fill("afu9_wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text("the key is not known")
        guarded.faults.clear()  # a browser notes the 401 on its console
        page.get_by_label("Key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(f"{guarded.address}/ui/executions?status=failed")
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/x/flow")
        page.get_by_role("button", name="ada · sign out").click()
        expect(page.get_by_label("Key")).to_be_visible()
        assert page.context.cookies() == []
        for foreign in ("//evil.example/", "https://evil.example/", "/\\evil.example", "/\t/evil.example"):
            given = {"key": key, "next": foreign}
            answer = httpx.post(f"{guarded.address}/ui/sign-in", data=given)
            assert answer.headers["location"] == "/x/flow/ui/executions"
