"""The form of a control, over HTTP: what cannot be meant is told in words, and nothing is done."""

from __future__ import annotations

import re
from uuid import UUID, uuid4

import httpx
import pytest

from orchestrator.submit import Request, Submitter
from persistence.executions import require_execution
from persistence.pool import Pool, run
from tests.drive import drive, submit
from tests.integration.test_api import api as api
from tests.read_page import words
from tests.workflows import FunctionTools, echo, sequence


@pytest.fixture
def ended(pool: Pool) -> UUID:
    """Two steps, completed, of a registered workflow."""
    workflow = sequence(2)
    submitter = Submitter(pool, None)
    request = Request(input={"n": 1})
    execution_id = submitter.submit(workflow, [request], submitter.register(workflow)["id"])[0].execution_id
    assert drive(pool, execution_id, FunctionTools(echo=echo)) == "completed"
    return execution_id


def confirm(api: httpx.Client, execution_id: UUID, action: str, **typed: str) -> httpx.Response:
    """Previews what is typed, and confirms it as it was shown."""
    address = f"/ui/executions/{execution_id}/act/{action}"
    typed = {"reason": "", **typed}
    preview = api.post(address, data=typed)
    shown = re.search(r'name="shown" value="(\w*)"', preview.text)
    return preview if shown is None else api.post(address, data={**typed, "shown": shown[1], "do": "confirm"})


def count(pool: Pool) -> int:
    with pool.connection() as connection:
        (row,) = connection.execute("SELECT count(*) AS n FROM workflow_executions").fetchall()
    return int(row["n"])


@pytest.mark.parametrize(
    ("action", "typed", "told", "code"),
    [
        ("fork", {"workflow": "gone"}, "no workflow is named gone", 404),
        ("fork", {"input": "[1]"}, "input must be a JSON object", 422),
        ("fork", {"variables": "NaN"}, "variables is not JSON", 422),
        ("fork", {"step": "absent"}, "has no step 'absent'", 404),
        ("rerun", {"step": "7"}, "has no step '7'", 404),
        ("set-output", {"step": "step_0", "output": "{"}, "output is not JSON", 422),
        ("set-output", {"step": "", "output": "{}"}, "set-output needs a step", 422),
        ("decide", {"step": "step_0", "decision": "done"}, "only a step that failed as outcome_unknown", 409),
        ("decide", {"step": "step_0", "decision": "shrug"}, "decide needs a decision", 422),
        ("resume", {}, "an execution that is completed cannot be resumed", 409),
        ("explode", {}, "there is no action explode", 404),
    ],
)
def test_what_cannot_be_meant_is_told_and_not_done(
    api: httpx.Client, pool: Pool, ended: UUID, action: str, typed: dict[str, str], told: str, code: int
) -> None:
    answer = confirm(api, ended, action, **typed)
    assert (answer.status_code, told in words(answer)) == (code, True), words(answer)
    assert (count(pool), require_execution(pool, ended)["status"]) == (1, "completed")
    assert not run(pool, "get_execution_events", {"execution_id": ended})


def test_a_fork_of_what_is_disabled_is_not_made(api: httpx.Client, pool: Pool, ended: UUID) -> None:
    """And only who has a registered workflow is offered its newest version."""
    assert "with the newest version of sequence" in api.get(f"/ui/executions/{ended}/act/fork").text
    assert "newest version" not in api.get(f"/ui/executions/{submit(pool, sequence(1))}/act/fork").text
    assert api.post("/api/workflow/workflows/sequence/disable").status_code == 200
    answer = confirm(api, ended, "fork", workflow="sequence")
    assert (answer.status_code, "sequence is disabled: nothing was started" in words(answer)) == (409, True)
    assert count(pool) == 2


def test_what_nobody_was_shown_is_not_done(api: httpx.Client, pool: Pool, ended: UUID) -> None:
    """A form without the mark of its preview, or with that of another."""
    address = f"/ui/executions/{ended}/act/rerun"
    for more in ({}, {"shown": ""}, {"shown": "0" * 16}):
        answer = api.post(address, data={"step": "step_0", "do": "confirm", **more})
        assert (answer.status_code, "Nothing was done yet" in words(answer)) == (409, True)
        assert require_execution(pool, ended)["status"] == "completed"
    assert confirm(api, ended, "rerun", step="step_0").status_code == 303
    assert require_execution(pool, ended)["status"] == "running"


def test_an_execution_that_is_not_there_has_no_form(api: httpx.Client) -> None:
    absent = uuid4()
    for answer in (api.get(f"/ui/executions/{absent}/act/retry"), confirm(api, absent, "retry")):
        assert (answer.status_code, f"no execution {absent}" in words(answer)) == (404, True)
