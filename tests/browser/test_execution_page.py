"""One execution in a browser."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from playwright.sync_api import Browser, expect

from orchestrator.control import Controller, Wish
from orchestrator.outcome import Failed
from orchestrator.submit import Request, Submitter
from persistence.executions import create_execution, create_step, update_step
from persistence.pool import Pool
from persistence.settings import Settings
from tests.browser.conftest import SCRIPT, Site, accessibility_faults, serve
from tests.drive import drive, drive_some, submit
from tests.workflows import FunctionTools, echo, sequence

TABS = ("timeline", "steps", "graph", "history", "data", "cost", "json")


def fetch(site: Site, path: str) -> tuple[bytes, Any]:
    answer = httpx.get(site.address + path, timeout=30)
    assert answer.status_code == 200
    return answer.content, answer.headers


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("tab", TABS)
def test_every_view_shows_scripts_as_text_and_is_accessible(site: Site, failed: UUID, tab: str, scheme: str) -> None:
    page = site.open(f"/ui/executions/{failed}?tab={tab}", color_scheme=scheme)
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"A {SCRIPT} title")
    assert accessibility_faults(page) == []


def test_what_failed_comes_first_and_says_what_a_retry_would_do(site: Site, failed: UUID) -> None:
    page = site.open(f"/ui/executions/{failed}")
    panel = page.get_by_label("What went wrong")
    expect(panel).to_contain_text("step_1")
    expect(panel).to_contain_text(f"HTTP 503 {SCRIPT}")
    expect(panel).to_contain_text("attempt 1 of 1 · tool_error")
    expect(panel).to_contain_text("1 step reused, 2 tools called")
    panel.get_by_text("input as sent").click()
    expect(panel.locator("pre")).to_contain_text('"value": 1')


def test_an_execution_whose_definition_is_not_kept_is_shown(site: Site, pool: Pool) -> None:
    execution_id = create_execution(pool, None, {"n": 1}, {})
    update_step(pool, create_step(pool, execution_id, "by_hand", 0, {}), "completed", {"ok": True}, None, 12)
    page = site.open(f"/ui/executions/{execution_id}")
    expect(page.get_by_text("no definition is kept with it")).to_be_visible()
    expect(page.get_by_role("link", name="by_hand")).to_be_visible()
    page.get_by_text("Why are some not possible?").click()
    expect(page.get_by_text("kept by its caller").first).to_be_visible()


def test_an_execution_that_has_not_begun_and_one_without_steps(site: Site, pool: Pool) -> None:
    page = site.open(f"/ui/executions/{submit(pool, sequence(2))}")
    expect(page.get_by_text("2 steps · 2 pending")).to_be_visible()
    page.goto(f"{site.address}/ui/executions/{create_execution(pool, None, {}, {})}")
    expect(page.get_by_text("It has no steps.")).to_be_visible()


@pytest.mark.parametrize("wrong", ["nonsense", "00000000-0000-0000-0000-000000000000"])
def test_an_id_of_nothing_is_a_page_that_says_so(site: Site, wrong: str) -> None:
    page = site.open(f"/ui/executions/{wrong}")
    expect(page.get_by_role("link", name="All executions")).to_be_visible()
    site.faults.clear()  # the 404


def test_two_thousand_steps_are_shown_in_windows(site: Site, pool: Pool) -> None:
    execution_id = submit(pool, sequence(2000))
    page = site.open(f"/ui/executions/{execution_id}")
    expect(page.get_by_text("steps 1–1,000 of 2,000")).to_be_visible()
    page.get_by_role("link", name="page 2").click()
    expect(page.get_by_role("link", name="step_1999")).to_be_attached(timeout=15_000)


def test_a_large_output_is_a_small_page_and_an_exact_download(site: Site, pool: Pool) -> None:
    execution_id = create_execution(pool, None, {}, {})
    found = [{"path": f"src/file_{n}.py", "note": '"quoted" & <b>'} for n in range(90_000)]
    output = {"exact": 2**53 + 1, "password": "hunter2", "found": found}
    assert len(json.dumps(output)) > 5_000_000
    with pool.connection() as connection:
        connection.execute(
            "UPDATE workflow_executions SET output = %s, context = %s, status = 'completed' WHERE id = %s",
            (json.dumps(output), json.dumps({"variables": output}), execution_id),
        )
    for tab in TABS:
        body, _ = fetch(site, f"/ui/executions/{execution_id}?tab={tab}")
        assert len(body) <= 100 * 1024, tab
    whole, headers = fetch(site, f"/ui/executions/{execution_id}/download/output")
    assert headers["Content-Disposition"].startswith("attachment")
    assert b"9007199254740993" in whole
    assert json.loads(whole) == output | {"password": "[redacted]"}


def test_the_first_load_is_small(site: Site, pool: Pool) -> None:
    execution_id = submit(pool, sequence(50))
    body, _ = fetch(site, f"/ui/executions/{execution_id}")
    text = body.decode()
    assets = [text.split(f'{kind}="')[1].split('"')[0] for kind in ('stylesheet" href', "script src")]
    prefix = "/x/flow" if site.address.endswith("/x/flow") else ""
    parts = [body, *(fetch(site, one.removeprefix(prefix))[0] for one in assets)]
    assert sum(len(gzip.compress(part)) for part in parts) <= 100 * 1024


def test_it_is_usable_on_a_narrow_screen(site: Site, failed: UUID) -> None:
    page = site.open(f"/ui/executions/{failed}", viewport={"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for part in page.locator(".timeline .row > *").all():
        box = part.bounding_box()
        assert box is None or box["x"] + box["width"] <= 360  # rows clip what would not fit


def test_it_is_followed_and_an_open_detail_and_the_focus_are_kept(site: Site, pool: Pool) -> None:
    execution_id = submit(pool, sequence(3))
    page = site.open(f"/ui/executions/{execution_id}")
    expect(page.locator("#live")).to_have_text("● live")
    page.get_by_text("Why are some not possible?").click()
    page.locator("#act-cancel").focus()
    drive(pool, execution_id, FunctionTools(echo=echo))
    expect(page.get_by_role("heading", level=1)).to_contain_text("completed", timeout=10_000)
    expect(page.locator("#why-not")).to_have_attribute("open", "")


def control(pool: Pool, execution_id: UUID, action: str) -> None:
    Controller(pool, None).carry_out(execution_id, Wish(action=action, actor="ada", reason="a look first"))


@pytest.mark.parametrize("status", ["running", "paused", "cancelled"])
def test_every_status_is_shown_with_what_is_possible(site: Site, pool: Pool, status: str) -> None:
    execution_id = submit(pool, sequence(3))
    drive_some(pool, execution_id, FunctionTools(echo=echo), 1)
    if status != "running":
        control(pool, execution_id, {"paused": "pause", "cancelled": "cancel"}[status])
    page = site.open(f"/ui/executions/{execution_id}")
    expect(page.get_by_role("heading", level=1)).to_contain_text(status)
    possible = {"running": "Pause", "paused": "Resume", "cancelled": "Retry…"}[status]
    expect(page.get_by_role("link", name=possible)).to_be_visible()
    for tab in TABS:
        fetch(site, f"/ui/executions/{execution_id}?tab={tab}")


def test_a_terminal_run_shows_nothing_that_runs(site: Site, pool: Pool) -> None:
    execution_id = submit(pool, sequence(2))
    with pool.connection() as connection:
        connection.execute(
            "UPDATE workflow_steps SET status = 'running', attempt = 1, dispatch_after = NULL, started_at = now(),"
            " claimed_at = now()"
            " WHERE execution_id = %s AND step_index = 0",
            (execution_id,),
        )
        connection.execute(
            "UPDATE workflow_executions SET status = 'failed', error = 'out of time', started_at = now(),"
            " completed_at = now() WHERE id = %s",
            (execution_id,),
        )
    page = site.open(f"/ui/executions/{execution_id}")
    expect(page.get_by_label("What went wrong")).to_contain_text("out of time")
    expect(page.get_by_text("2 steps · 1 cancelled · 1 pending")).to_be_visible()
    expect(page.locator(".status.running")).to_have_count(0)
    expect(page.locator("[data-grows]")).to_have_count(0)


def test_a_graph_is_followed_to_a_step_and_has_a_limit(site: Site, pool: Pool, failed: UUID) -> None:
    page = site.open(f"/ui/executions/{failed}?tab=graph")
    expect(page.locator(".graph .node")).to_have_count(3)
    page.get_by_role("link", name="step_1, failed").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("step_1")
    page.goto(f"{site.address}/ui/executions/{submit(pool, sequence(201))}?tab=graph")
    expect(page.get_by_text("up to 200 are drawn")).to_be_visible()
    page.goto(f"{site.address}/ui/executions/{submit(pool, sequence(1))}?tab=graph")
    expect(page.get_by_text("there is nothing to draw")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_step_shows_what_it_was_given_its_attempts_and_what_was_replaced(
    site: Site, pool: Pool, failed: UUID, scheme: str
) -> None:
    control(pool, failed, "retry")
    drive(pool, failed, FunctionTools(echo=echo))
    page = site.open(f"/ui/executions/{failed}/steps/1", color_scheme=scheme)
    expect(page.get_by_role("heading", level=1)).to_contain_text("step_1")
    expect(page.get_by_text("Results that were replaced")).to_be_visible()
    page.locator("details[id^=old-] summary").click()
    expect(page.locator("details[id^=old-] pre")).to_contain_text(f"HTTP 503 {SCRIPT}")
    assert accessibility_faults(page) == []
    page.get_by_role("link", name="[ step 0").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("step_0")
    page.goto(f"{site.address}/ui/executions/{failed}/steps/99")
    expect(page.get_by_text("its steps are 0 to 2")).to_be_visible()
    site.faults.clear()  # the 404


def test_the_keys_go_to_the_runs_before_and_after(site: Site, pool: Pool) -> None:
    submitter = Submitter(pool, None)
    workflow_id = submitter.register(sequence(1))["id"]
    first, second = (one.execution_id for one in submitter.submit(sequence(1), [Request(), Request()], workflow_id))
    with pool.connection() as connection:
        connection.execute(
            "UPDATE workflow_executions SET created_at = %s WHERE id = %s", (datetime(2026, 3, 29, tzinfo=UTC), first)
        )
    page = site.open(f"/ui/executions/{first}")
    page.keyboard.press("]")
    expect(page.locator("#execution-id")).to_have_text(str(second))
    page.keyboard.press("[")
    expect(page.locator("#execution-id")).to_have_text(str(first))


def test_attempts_are_counted_anew_when_a_person_runs_a_step_again(site: Site, pool: Pool, failed: UUID) -> None:
    control(pool, failed, "retry")
    assert drive(pool, failed, FunctionTools(echo=lambda **_: Failed("tool_error", "again"))) == "failed"
    page = site.open(f"/ui/executions/{failed}")
    expect(page.get_by_label("What went wrong")).to_contain_text("attempt 1 of 1 · tool_error")
    page.goto(f"{site.address}/ui/executions/{failed}/steps/1")
    expect(page.get_by_text("2 attempts")).to_be_visible()


def test_spans_are_true_when_clocks_change_in_the_databases_zone(
    pool: Pool, settings: Settings, browser: Browser, failed: UUID
) -> None:
    """Four seconds in the night in which the clocks of Berlin skip an hour."""
    begin = datetime(2026, 3, 29, 0, 59, 58, tzinfo=UTC)
    times = {"id": failed, "begin": begin, "end": begin + timedelta(seconds=4)}
    with pool.connection() as connection:
        connection.execute(
            "UPDATE workflow_executions SET created_at = %(begin)s, started_at = %(begin)s, completed_at = %(end)s"
            " WHERE id = %(id)s",
            times,
        )
        connection.execute(
            "UPDATE workflow_steps SET started_at = %(begin)s, claimed_at = %(begin)s, completed_at = %(end)s"
            " WHERE execution_id = %(id)s AND step_index = 0",
            times,
        )
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET timezone = 'Europe/Berlin'")
    with serve(settings, browser) as site:
        page = site.open(f"/ui/executions/{failed}", timezone_id="Europe/Berlin")
        expect(page.get_by_text("03-29 00:59:58 → 03-29 01:00:02 (4.00 s)")).to_be_visible()
        expect(page.get_by_role("img", name="attempt 1: completed after 4.00 s")).to_be_visible()
        page.locator("#zone").click()
        expect(page.get_by_text("03-29 01:59:58 → 03-29 03:00:02 (4.00 s)")).to_be_visible()
