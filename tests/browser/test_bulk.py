"""Acting on many executions in a browser: ticked, asked about, followed; with a script and without."""

from __future__ import annotations

import json

from playwright.sync_api import expect

from persistence.pool import Pool
from persistence.settings import Settings
from tests.browser.conftest import Site, accessibility_faults_by_day_and_night
from tests.drive import submit
from tests.fill import make_failed, make_rows, work_off_all
from tests.workflows import sequence


def test_what_is_ticked_is_retried_after_a_question_and_followed(site: Site, pool: Pool, settings: Settings) -> None:
    make_failed(pool, 2)
    submit(pool, sequence(1), title="runs")
    page = site.open("/ui/executions")
    page.get_by_label("Tick this page").check()
    expect(page.locator("#ticked")).to_have_text("3 ticked")
    page.get_by_role("button", name="Retry…").click()
    expect(page.get_by_role("heading", name="Retry 2 executions?")).to_be_visible()
    assert accessibility_faults_by_day_and_night(page) == []
    page.get_by_label("Reason").fill("the service is back")
    page.get_by_role("button", name="Retry 2 executions").click()
    expect(page.get_by_role("heading", name="pending")).to_be_visible()
    page.get_by_text("Stop the job…").click()
    assert accessibility_faults_by_day_and_night(page) == []
    work_off_all(pool, settings)
    expect(page.get_by_role("heading", name="completed")).to_be_visible(timeout=10_000)
    expect(page.get_by_role("img", name="3 of 3")).to_be_visible()
    page.get_by_role("link", name="its line in the audit log").click()
    expect(page.locator("[data-row]")).to_contain_text("the service is back")
    assert accessibility_faults_by_day_and_night(page) == []
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_exactly_two_are_compared_and_those_ticked_exported(site: Site, pool: Pool) -> None:
    older, newer = make_failed(pool, 2)
    page = site.open("/ui/executions")
    compare = page.get_by_role("button", name="Compare")
    expect(compare).to_be_disabled()
    page.get_by_label("Tick broken 0").check()
    expect(compare).to_be_disabled()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export JSON Lines").click()
    assert [json.loads(line)["id"] for line in download.value.path().read_text().splitlines()] == [str(older)]
    page.get_by_label("Tick broken 1").check()
    page.get_by_label("all that match the filter").check()
    expect(compare).to_be_disabled()
    page.get_by_label("all that match the filter").uncheck()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.keyboard.press("c")
    expect(page).not_to_have_url(f"{site.address}/ui/executions")
    assert f"{site.address}/ui/compare?a={newer}&b={older}" in asked
    site.faults.clear()  # whatever that page makes of them


def test_the_list_works_without_a_script(site: Site, pool: Pool) -> None:
    make_rows(pool, 2, "failed")
    page = site.open("/ui/executions?status=failed", java_script_enabled=False)
    page.get_by_role("textbox", name="Trigger").fill("ada")
    page.get_by_role("button", name="Show").click()
    page.get_by_label("Tick failed 1").check()
    page.get_by_role("button", name="Retry…").click()
    expect(page.get_by_text("None of them takes it")).to_be_visible()
