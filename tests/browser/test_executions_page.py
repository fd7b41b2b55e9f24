"""The list of executions in a browser."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import Browser, expect

from control_center.keys import Trust, create_key
from persistence.executions import create_execution
from persistence.pool import Pool
from persistence.settings import Settings
from tests.browser.conftest import Site, accessibility_faults, serve
from tests.drive import drive, submit
from tests.workflows import FunctionTools, echo, sequence


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_ran_is_listed(site: Site, pool: Pool, scheme: str) -> None:
    drive(pool, submit(pool, sequence(3), title="A <script>alert(1)</script> title"), FunctionTools(echo=echo))
    page = site.open("/", color_scheme=scheme)
    row = page.get_by_role("row").filter(has_text="A <script>alert(1)</script> title")
    expect(row).to_contain_text("completed")
    assert accessibility_faults(page) == []


def test_a_list_without_rows_says_how_to_begin(site: Site) -> None:
    page = site.open("/ui/executions")
    expect(page.get_by_text("afu9 run FILE")).to_be_visible()


def test_an_unknown_address_is_a_page_that_says_so(site: Site) -> None:
    page = site.open("/ui/nothing")
    expect(page.get_by_role("heading", name="There is no such thing")).to_be_visible()
    site.faults.clear()  # a browser notes the 404 on its console


def test_the_list_follows_what_is_submitted(site: Site, pool: Pool) -> None:
    page = site.open("/ui/executions")
    expect(page.locator("#live")).to_have_text("● live")
    submit(pool, sequence(2), title="Later than the page")
    expect(page.get_by_role("link", name="Later than the page")).to_be_visible(timeout=10_000)


def test_show_takes_what_the_form_sends(site: Site, pool: Pool) -> None:
    """Its empty fields too."""
    submit(pool, sequence(1), title="It runs")
    drive(pool, submit(pool, sequence(1), title="It has ended"), FunctionTools(echo=echo))
    page = site.open("/ui/executions")
    page.get_by_label("Status").select_option("running")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("link", name="It runs")).to_be_visible()
    expect(page.get_by_role("link", name="It has ended")).to_have_count(0)


def test_the_next_page_has_the_same_filter(site: Site, pool: Pool) -> None:
    for number in range(3):
        submit(pool, sequence(1), title=f"Number {number}")
    page = site.open("/ui/executions?status=running&limit=2")
    page.get_by_role("link", name="older").click()
    expect(page.get_by_role("link", name="Number")).to_have_count(1)
    expect(page.get_by_role("link", name="older")).to_have_count(0)


def test_a_fault_is_no_region(site: Site, pool: Pool) -> None:
    """Who watches what is removed is told so, and whoever asks for a region of nothing gets a page."""
    execution_id = create_execution(pool, None, {}, {})
    page = site.open(f"/ui/executions/{execution_id}")
    expect(page.locator("#live")).to_have_text("● live")
    with pool.connection() as connection:
        connection.execute("DELETE FROM workflow_executions")
    answer = httpx.get(f"{site.address}/ui/executions/{execution_id}?region=body")
    assert (answer.status_code, "There is no such thing" in answer.text) == (404, True)
    page.evaluate("afu9.refreshAll()")
    expect(page.get_by_role("heading", name="There is no such thing")).to_be_visible()
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
        for foreign in ("//evil.example/", "https://evil.example/", "/\\evil.example"):
            given = {"key": key, "next": foreign}
            answer = httpx.post(f"{guarded.address}/ui/sign-in", data=given)
            assert answer.headers["location"] == "/x/flow/ui/executions"
