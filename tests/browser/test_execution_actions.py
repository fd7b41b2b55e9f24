"""What can be done with an execution, in a browser."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, expect

from control_center.keys import Trust, create_key
from orchestrator.outcome import Failed
from orchestrator.submit import Request, Submitter
from persistence.executions import get_execution_steps, require_execution
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.browser.conftest import Site, accessibility_faults, failing, serve
from tests.drive import drive, drive_some, submit
from tests.integration.test_tools_page import listed
from tests.workflows import FunctionTools, echo, sequence


def test_a_retry_is_previewed_confirmed_and_audited(site: Site, pool: Pool, failed: UUID) -> None:
    page = site.open(f"/ui/executions/{failed}")
    page.get_by_label("What went wrong").get_by_role("link", name="Retry step_1…").click()
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


def test_a_retry_needs_no_script(settings: Settings, browser: Browser, pool: Pool, failed: UUID) -> None:
    with serve(settings, browser) as served:
        page = served.open(f"/ui/executions/{failed}", java_script_enabled=False)
        page.get_by_label("What went wrong").get_by_role("link", name="Retry step_1…").click()
        page.get_by_role("button", name="Retry now").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    assert run(pool, "get_execution_events", {"execution_id": failed})[-1]["kind"] == "retry"


def reach(page: Page, name: str) -> None:
    """Moves the focus there by the Tab key alone."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if name in page.evaluate("[document.activeElement.textContent.trim(), document.activeElement.name]"):
            return
    raise AssertionError(f"{name} cannot be reached")


def test_a_fork_with_an_edited_input_by_keyboard_alone(site: Site, pool: Pool, failed: UUID) -> None:
    page = site.open(f"/ui/executions/{failed}")
    reach(page, "Fork with edits…")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Fork with edits")).to_be_visible()
    reach(page, "input")
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


def test_what_would_be_done_now_is_shown_where_it_is_another_thing_than_before(
    site: Site, pool: Pool, failed: UUID
) -> None:
    """Somebody else retried meanwhile, and another step failed: the same form would call less than it said."""
    page = site.open(f"/ui/executions/{failed}/act/retry")
    expect(page.locator("#preview")).to_contain_text("call 2 tools")
    run(pool, "rerun_steps", _retry_by_another(failed))
    last = FunctionTools(echo=lambda **given: Failed("tool_error", "no") if given["value"] == 2 else given)
    assert drive(pool, failed, last) == "failed"
    page.get_by_label("Reason").fill("the service is back")
    page.get_by_role("button", name="Retry now").click()
    expect(page.get_by_role("alert")).to_contain_text("the execution has moved on")
    expect(page.locator("#preview")).to_contain_text("call 1 tool")
    expect(page.get_by_label("Reason")).to_have_value("the service is back")
    assert require_execution(pool, failed)["status"] == "failed"
    page.get_by_role("button", name="Retry now").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    site.faults.clear()  # the 409


def test_a_step_is_skipped_although_others_end_meanwhile(site: Site, pool: Pool) -> None:
    """Less is called than was shown: nobody needs to be asked again for that."""
    execution_id = submit(pool, sequence(4))
    page = site.open(f"/ui/executions/{execution_id}/act/skip?step=step_3")
    drive_some(pool, execution_id, FunctionTools(echo=echo), 2)
    page.get_by_role("button", name="Skip a step now").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    assert drive(pool, execution_id, FunctionTools(echo=echo)) == "completed"
    assert get_execution_steps(pool, execution_id)[3]["status"] == "skipped"


def test_an_output_is_set_that_fits_the_tools_schema(site: Site, pool: Pool, failed: UUID) -> None:
    schema = {"type": "object", "required": ["value"], "properties": {"value": {"type": "integer"}}}
    listed(pool, "test", "echo", output_schema=schema)
    page = site.open(f"/ui/executions/{failed}")
    page.get_by_role("link", name="Set the output of step_1…").click()
    page.get_by_label("Output (JSON").fill('{"value": "one"}')
    page.get_by_role("button", name="Set an output now").click()
    expect(page.get_by_role("alert")).to_contain_text("does not fit the outputSchema of test.echo: $.value")
    expect(page.get_by_label("Output (JSON")).to_have_value('{"value": "one"}')
    page.get_by_label("Output (JSON").fill('{"value": 9007199254740993}')
    page.get_by_role("button", name="Preview again").click()
    expect(page.locator("#preview")).to_contain_text("replace 1: step_1")
    expect(page.locator("#preview")).to_contain_text("call 1 tool")
    page.get_by_role("button", name="Set an output now").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    tools = FunctionTools(echo=echo)
    assert drive(pool, failed, tools) == "completed"
    steps = get_execution_steps(pool, failed)
    assert steps[1]["output"] == {"value": 2**53 + 1}
    assert steps[2]["input"]["before"] == {"value": 2**53 + 1}
    assert tools.calls["echo"] == 1  # of the step after it
    site.faults.clear()  # the 409


def test_a_fork_takes_the_newest_version_and_what_it_would_do_is_shown_first(site: Site, pool: Pool) -> None:
    submitter = Submitter(pool, None)
    first = submitter.register(sequence(2))
    tools = FunctionTools(echo=failing)
    execution_id = submitter.submit(sequence(2), [Request(input={"n": 0})], first["id"])[0].execution_id
    assert drive(pool, execution_id, tools) == "failed"
    newest = submitter.register(sequence(4))
    page = site.open(f"/ui/executions/{execution_id}/act/fork")
    expect(page.locator("#preview")).to_contain_text("call 1 tool")
    page.get_by_label("with the newest version of sequence").check()
    page.get_by_role("button", name="Fork with edits now").click()
    expect(page.get_by_role("alert")).to_contain_text("something else was chosen")
    expect(page.locator("#preview")).to_contain_text("reuse 1: step_0")
    expect(page.locator("#preview")).to_contain_text("call 3 tools")
    page.get_by_role("button", name="Fork with edits now").click()
    expect(page.get_by_text("made of")).to_be_visible()
    made = UUID(page.locator("#execution-id").inner_text())
    assert require_execution(pool, made)["workflow_id"] == newest["id"] != first["id"]
    assert drive(pool, made, FunctionTools(echo=echo)) == "completed"
    assert [step["reused_from"] is not None for step in get_execution_steps(pool, made)] == [True, False, False, False]
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


def test_an_execution_is_paused_and_resumed_and_its_history_says_who_and_why(site: Site, pool: Pool) -> None:
    execution_id = submit(pool, sequence(3))
    drive_some(pool, execution_id, FunctionTools(echo=echo), 1)
    page = site.open(f"/ui/executions/{execution_id}")
    page.get_by_role("link", name="Pause").click()
    page.get_by_label("Reason").fill("a look first")
    page.get_by_role("button", name="Pause now").click()
    expect(page.get_by_text("It waits for a person")).to_be_visible()
    page.get_by_role("link", name="Resume").click()
    page.get_by_role("button", name="Resume now").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    page.get_by_role("link", name="History").click()
    expect(page.get_by_role("listitem").filter(has_text="pause by anonymous: a look first")).to_be_visible()


def test_an_undecided_step_is_decided(site: Site, pool: Pool) -> None:
    """Nobody knows whether the call took place: a person says that it did, and with what output."""
    execution_id = submit(pool, sequence(2))
    drive(pool, execution_id, FunctionTools(echo=lambda **_: Failed("outcome_unknown", "the worker was lost")))
    page = site.open(f"/ui/executions/{execution_id}")
    expect(page.get_by_label("What went wrong")).to_contain_text("outcome unknown")
    page.get_by_role("link", name="Decide…").click()
    page.get_by_label("done: it took place").check()
    page.get_by_label("Output (JSON").fill('{"ok": 9007199254740993}')
    page.get_by_role("button", name="Decide now").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done yet")  # what was shown is to call it again
    assert require_execution(pool, execution_id)["status"] == "failed"
    page.get_by_role("button", name="Decide now").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    assert drive(pool, execution_id, FunctionTools(echo=echo)) == "completed"
    assert get_execution_steps(pool, execution_id)[0]["output"] == {"ok": 2**53 + 1}
    site.faults.clear()  # the 409


@pytest.mark.parametrize(
    ("action", "button"),
    [("rerun", "Rerun from a step now"), ("skip", "Skip a step now"), ("replay", "Replay a step now")],
)
def test_a_step_is_chosen_and_the_preview_follows(
    site: Site, pool: Pool, failed: UUID, action: str, button: str
) -> None:
    page = site.open(f"/ui/executions/{failed}/act/{action}")
    page.get_by_label("Step" if action != "rerun" else "From step").select_option("step_1")
    page.get_by_role("button", name="Preview again").click()
    expect(page.locator("#preview")).to_be_visible()
    assert accessibility_faults(page) == []
    page.get_by_role("button", name=button).click()
    expect(page.locator("#execution-id")).to_be_visible()
    made = UUID(page.locator("#execution-id").inner_text())
    assert (made == failed) is (action != "replay")
    assert require_execution(pool, made)["status"] == "running"


def test_a_step_that_was_not_previewed_is_not_run_and_takes_no_other_steps_input(
    site: Site, pool: Pool, failed: UUID
) -> None:
    page = site.open(f"/ui/executions/{failed}/act/rerun?step=step_0")
    expect(page.get_by_label("Input (JSON")).to_have_value(re.compile('"value": 0'))
    page.get_by_label("From step").select_option("step_1")
    page.get_by_role("button", name="Rerun from a step now").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done yet")
    expect(page.get_by_label("Input (JSON")).to_have_value(re.compile('"value": 1'))
    assert require_execution(pool, failed)["status"] == "failed"
    page.get_by_role("button", name="Rerun from a step now").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    assert drive(pool, failed, FunctionTools(echo=echo)) == "completed"
    assert get_execution_steps(pool, failed)[1]["input"]["value"] == 1
    site.faults.clear()  # the 409


def test_a_fork_from_the_start_reuses_nothing(site: Site, pool: Pool, failed: UUID) -> None:
    page = site.open(f"/ui/executions/{failed}/act/fork")
    expect(page.locator("#preview")).to_contain_text("reuse 1: step_0")
    page.get_by_label("From step").select_option("")
    page.get_by_role("button", name="Preview again").click()
    expect(page.locator("#preview")).to_contain_text("reuse 0: nothing")
    page.get_by_role("button", name="Fork with edits now").click()
    expect(page.get_by_text("made of")).to_be_visible()
    made = UUID(page.locator("#execution-id").inner_text())
    assert [step["reused_from"] for step in get_execution_steps(pool, made)] == [None, None, None]
