"""What waits for a person, over HTTP: undecided steps, paused executions, holds; and that finding them stays cheap."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import httpx
import pytest

from control_center.dashboard.show_inbox import CANDIDATES, ROWS
from control_center.keys import Trust, create_key
from orchestrator.control import Controller, Wish
from orchestrator.outcome import Failed
from orchestrator.submit import Request, Submitter
from persistence.pool import Pool, connect, run
from persistence.settings import Settings
from persistence.statements import statement
from tests.api_server import running_api
from tests.drive import drive, drive_some, submit
from tests.integration.test_api import api as api
from tests.read_page import words
from tests.workflows import FunctionTools, sequence

SCRIPT = "<script>alert(1)</script>"
EMPTY = "Nothing waits for a person"


def unsure() -> FunctionTools:
    """Nobody knows what came of the first call."""
    answers: list[Any] = [Failed("timeout", f"no answer {SCRIPT}", "unknown")]
    tools = FunctionTools(echo=lambda **given: answers.pop() if answers else given)
    tools.repeatable = False
    return tools


def undecided(pool: Pool, *, go_on: bool = False, steps: int = 2) -> UUID:
    execution_id = submit(pool, sequence(steps, config={"continueOnError": go_on}), title=f"Pay {SCRIPT}")
    assert drive(pool, execution_id, unsure()) == ("completed" if go_on else "failed")
    return execution_id


def controlled(pool: Pool, execution_id: UUID, action: str, **more: Any) -> None:
    Controller(pool, None).carry_out(execution_id, Wish(action=action, actor="ada", **more))


@pytest.mark.parametrize(("decision", "go_on"), [("retry", False), ("done", True), ("skip", False), ("fail", True)])
def test_a_step_waits_until_somebody_has_decided(api: httpx.Client, pool: Pool, decision: str, go_on: bool) -> None:
    """Also in an execution that completed without it; by the form that it leads to."""
    assert EMPTY in words(api.get("/ui/inbox"))
    execution_id = undecided(pool, go_on=go_on)
    answer = api.get("/ui/inbox")
    assert f"step_0 test.echo {'✓ completed' if go_on else '✕ failed'} Pay {SCRIPT}" in words(answer)
    assert f"no answer {SCRIPT}" in words(answer)
    assert SCRIPT not in answer.text
    form = f"/ui/executions/{execution_id}/act/decide"
    assert f'href="{form}?step=step_0"' in answer.text
    given = {"step": "step_0", "decision": decision, "output": "{}"}
    shown = re.search(r'name="shown" value="(\w+)"', api.post(form, data=given).text)
    assert shown is not None
    assert api.post(form, data=given | {"shown": shown[1], "do": "confirm"}).status_code == 303
    assert EMPTY in words(api.get("/ui/inbox"))
    with pool.connection() as connection:
        (row,) = connection.execute("SELECT action, target FROM audit_log").fetchall()
    assert (row["action"], row["target"]) == ("execution.decide", str(execution_id))


def test_a_step_that_fails_so_again_waits_again(api: httpx.Client, pool: Pool) -> None:
    """Whatever was decided of it before."""
    execution_id = undecided(pool, steps=1)
    controlled(pool, execution_id, "decide", step="0", decision="fail")
    assert EMPTY in words(api.get("/ui/inbox"))
    controlled(pool, execution_id, "retry")
    drive(pool, execution_id, unsure())
    assert "step_0 test.echo ✕ failed" in words(api.get("/ui/inbox"))


def test_nothing_is_to_be_decided_while_its_execution_runs(api: httpx.Client, pool: Pool) -> None:
    execution_id = submit(pool, sequence(2, config={"continueOnError": True}))
    assert drive_some(pool, execution_id, unsure(), 1) == "running"
    assert EMPTY in words(api.get("/ui/inbox"))
    controlled(pool, execution_id, "pause")
    assert "step_0 test.echo ‖ paused" in words(api.get("/ui/inbox"))


def test_what_is_paused_or_held_is_told_with_who_and_why(api: httpx.Client, pool: Pool) -> None:
    """The newest pause counts; a hold is released by its form, and leads back."""
    execution_id = submit(pool, sequence(2), title=f"Stop {SCRIPT}")
    controlled(pool, execution_id, "pause", reason="before")
    controlled(pool, execution_id, "resume")
    controlled(pool, execution_id, "pause", reason=f"wait {SCRIPT}")
    run(pool, "hold_calls", {"kind": "tool", "name": "test.echo", "actor": "bob", "reason": f"broken {SCRIPT}"})
    answer = api.get("/ui/inbox")
    assert f"Stop {SCRIPT} sequence ada " in words(answer)
    assert f"wait {SCRIPT} Resume… Cancel…" in words(answer)
    assert f'href="/ui/executions/{execution_id}/act/resume"' in answer.text
    assert "tool test.echo ‖ held by bob since" in words(answer)
    assert f"broken {SCRIPT}" in words(answer)
    assert SCRIPT not in answer.text
    controlled(pool, execution_id, "resume")
    released = api.post("/ui/holds/tool/test.echo", data={"do": "release", "back": "/ui/inbox"})
    assert (released.status_code, released.headers["location"]) == (303, "/ui/inbox")
    assert EMPTY in words(api.get("/ui/inbox"))


def test_who_may_only_read_sees_why_nothing_can_be_pressed(settings: Settings, pool: Pool) -> None:
    undecided(pool)
    run(pool, "hold_calls", {"kind": "workflow", "name": "sequence", "actor": "bob", "reason": None})
    with running_api(settings, Trust(keys=True)) as url:
        headers = {"Authorization": f"Bearer {create_key(pool, 'ada', 'viewer', None)}"}
        for path, buttons in (("inbox", 2), ("tools", 0)):
            answer = httpx.get(f"{url}/ui/{path}", headers=headers)
            assert "it needs the role operator, and ada has viewer" in words(answer)
            assert answer.text.count('disabled title="it needs') == buttons
            assert '<form method="post" action="/ui/holds' not in answer.text


def test_a_full_inbox_is_cut_and_found_by_an_index(api: httpx.Client, pool: Pool) -> None:
    """However many executions there are."""
    made = Submitter(pool, None).submit(sequence(1), [Request() for _ in range(3000)])
    ids = sorted(one.execution_id for one in made)
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_steps SET status = 'completed', dispatch_after = NULL")
        connection.execute("UPDATE workflow_executions SET status = 'completed'")
        connection.execute(
            "UPDATE workflow_steps SET status = 'failed', error_kind = 'outcome_unknown' WHERE execution_id = ANY (%s)",
            (ids[: ROWS + 1],),
        )
        for status, some in (("failed", ids[: ROWS + 1]), ("paused", ids[-ROWS - 1 :])):
            connection.execute("UPDATE workflow_executions SET status = %s WHERE id = ANY (%s)", (status, some))
    with connect(pool.conninfo) as alone:
        alone.execute("VACUUM ANALYZE workflow_steps, workflow_executions")
    answer = api.get("/ui/inbox")
    assert answer.text.count(">Decide…<") == answer.text.count(">Resume…<") == ROWS
    assert f"The newest {ROWS}; there are more." in words(answer)
    assert "/act/decide?step=step_0" in answer.text
    assert str(ids[ROWS]) in answer.text
    assert str(ids[0]) not in answer.text
    for name, more in (("undecided_steps", {"candidates": CANDIDATES}), ("paused_executions", {})):
        with pool.connection() as connection:
            plan = connection.execute(b"EXPLAIN " + statement(name), {"limit": ROWS + 1, **more}).fetchall()
        told = "\n".join(row["QUERY PLAN"] for row in plan)
        assert "Seq Scan on workflow_steps" not in told, told
        assert "Seq Scan on workflow_executions" not in told, told
