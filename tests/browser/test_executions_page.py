"""The list of executions in a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from persistence.pool import Pool
from tests.browser.conftest import Site, accessibility_faults
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
