"""One execution in a browser."""

from __future__ import annotations

import gzip
import json
from typing import Any
from uuid import UUID

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from control_center.keys import Trust, create_key
from orchestrator.outcome import Failed
from persistence.executions import create_execution, create_step, require_execution, update_step
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.browser.conftest import Site, accessibility_faults, serve
from tests.drive import drive, submit
from tests.workflows import FunctionTools, echo, sequence

SCRIPT = "<script>alert(1)</script>"
TABS = ("timeline", "steps", "graph", "history", "data", "cost", "json")


def failing(**arguments: Any) -> Any:
    """The second step's tool."""
    return Failed("tool_error", f"HTTP 503 {SCRIPT}") if arguments["value"] == 1 else arguments


@pytest.fixture
def failed(pool: Pool) -> UUID:
    """Three steps, of which the second failed."""
    execution_id = submit(pool, sequence(3), title=f"A {SCRIPT} title")
    assert drive(pool, execution_id, FunctionTools(echo=failing)) == "failed"
    return execution_id


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


def test_a_retry_is_previewed_confirmed_and_audited(site: Site, pool: Pool, failed: UUID) -> None:
    page = site.open(f"/ui/executions/{failed}")
    page.get_by_role("link", name="Retry…").click()
    expect(page.locator("#preview")).to_contain_text("reuse 1: step_0")
    expect(page.locator("#preview")).to_contain_text("call 2 tools")
    page.get_by_label("Reason").fill("the service is back")
    page.get_by_role("button", name="Retry now").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    event = run(pool, "get_execution_events", {"execution_id": failed})[-1]
    assert (event["event"], event["kind"], event["message"]) == ("control", "retry", "the service is back")
    with pool.connection() as connection:
        rows = connection.execute("SELECT action, target FROM audit_log").fetchall()
    assert rows == [{"action": "execution.retry", "target": str(failed)}]
    assert drive(pool, failed, FunctionTools(echo=echo)) == "completed"
    expect(page.get_by_role("heading", level=1)).to_contain_text("completed", timeout=10_000)


def reach(page: Page, name: str) -> None:
    """Moves the focus there by the Tab key alone."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim() || document.activeElement.name") == name:
            return
    raise AssertionError(f"{name} cannot be reached")


def test_a_fork_with_an_edited_input_by_keyboard_alone(site: Site, pool: Pool, failed: UUID) -> None:
    page = site.open(f"/ui/executions/{failed}")
    reach(page, "Fork with edits…")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Fork with edits")).to_be_visible()
    page.get_by_label("Input (JSON").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type('{"n": 9007199254740993}')
    reach(page, "Fork with edits now")
    page.keyboard.press("Enter")
    expect(page.get_by_text("made of")).to_be_visible()
    made = UUID(page.locator("#execution-id").inner_text())
    assert made != failed
    assert require_execution(pool, made)["input"] == {"n": 2**53 + 1}
    assert require_execution(pool, made)["forked_from"] == failed


def test_what_was_typed_stays_when_it_cannot_be_read(site: Site, failed: UUID) -> None:
    page = site.open(f"/ui/executions/{failed}/act/fork")
    page.get_by_label("Input (JSON").fill('{"n": ')
    page.get_by_role("button", name="Fork with edits now").click()
    expect(page.get_by_role("alert")).to_contain_text("input is not JSON")
    expect(page.get_by_label("Input (JSON")).to_have_value('{"n": ')
    site.faults.clear()  # a browser notes the 422 on its console


def test_who_comes_too_late_reads_how_it_stands_and_what_is_possible(site: Site, pool: Pool, failed: UUID) -> None:
    page = site.open(f"/ui/executions/{failed}/act/retry")
    run(pool, "rerun_steps", _retry_by_another(failed))
    drive(pool, failed, FunctionTools(echo=echo))
    page.get_by_role("button", name="Retry now").click()
    expect(page.get_by_role("alert")).to_contain_text("an execution that is completed cannot be retried")
    expect(page.get_by_role("alert").get_by_role("link", name="Fork with edits…")).to_be_visible()
    site.faults.clear()  # the 409


def _retry_by_another(execution_id: UUID) -> dict[str, Any]:
    wish = {"execution_id": execution_id, "actor": "ada", "reason": None, "action": "retry"}
    return wish | {"steps": [1], "overrides": "{}", "expected": "failed"}


def test_actions_that_are_not_possible_say_why(site: Site, failed: UUID) -> None:
    page = site.open(f"/ui/executions/{failed}")
    expect(page.get_by_role("button", name="Pause")).to_be_disabled()
    page.get_by_text("Why are some not possible?").click()
    expect(page.get_by_text("Pause the execution is failed; it would have to be running")).to_be_visible()


def test_a_viewer_sees_the_buttons_and_why_they_do_nothing(
    settings: Settings, browser: Browser, pool: Pool, failed: UUID
) -> None:
    with serve(settings, browser, trust=Trust(keys=True)) as guarded:
        page = guarded.open(f"/ui/executions/{failed}")
        page.get_by_label("Key").fill(create_key(pool, "vera", "viewer", None))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("button", name="Retry…")).to_be_disabled()
        page.get_by_text("Why are some not possible?").click()
        expect(page.get_by_text("Retry… it needs the role operator, and vera has viewer")).to_be_visible()
        page.goto(f"{guarded.address}/ui/executions/{failed}/act/retry")
        expect(page.get_by_text("this needs the role operator")).to_be_visible()
        answer = page.request.post(
            f"{guarded.address}/ui/executions/{failed}/act/retry",
            form={"do": "confirm"},
            headers={"Sec-Fetch-Site": "same-origin"},
        )
        assert answer.status == 403
        guarded.faults.clear()  # the 403
    assert require_execution(pool, failed)["status"] == "failed"


def test_a_hidden_value_is_kept_beside_an_edit_and_never_sent_as_it_is_shown(site: Site, pool: Pool) -> None:
    whole = {"token": "t0p-secret", "plain": 1}
    execution_id = submit(pool, sequence(1), context={"variables": {"door": whole, "n": 1}})
    drive(pool, execution_id, FunctionTools(echo=echo))
    page = site.open(f"/ui/executions/{execution_id}/act/fork")
    variables = page.get_by_label("Variables (JSON")
    assert "t0p-secret" not in page.content()
    text = variables.input_value()
    variables.fill(text.replace('"plain": 1', '"plain": 2'))
    page.get_by_role("button", name="Fork with edits now").click()
    expect(page.get_by_role("alert")).to_contain_text("variables holds [redacted]")
    page.get_by_label("Variables (JSON").fill(text.replace('"n": 1', '"n": 5'))
    page.get_by_role("button", name="Fork with edits now").click()
    expect(page.get_by_text("made of")).to_be_visible()
    made = UUID(page.locator("#execution-id").inner_text())
    found = require_execution(pool, made)["context"]["variables"]
    assert (found["door"], found["n"]) == (whole, 5)
    site.faults.clear()  # the 422


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
    expect(page.get_by_role("link", name="step_1999")).to_be_attached()


def test_a_large_output_is_a_small_page_and_an_exact_download(site: Site, pool: Pool) -> None:
    execution_id = create_execution(pool, None, {}, {})
    output = {"exact": 2**53 + 1, "password": "hunter2", "text": "x" * 5_000_000}
    with pool.connection() as connection:
        connection.execute(
            "UPDATE workflow_executions SET output = %s, status = 'completed' WHERE id = %s",
            (json.dumps(output), execution_id),
        )
    body, _ = fetch(site, f"/ui/executions/{execution_id}?tab=data")
    assert len(body) <= 100 * 1024
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
