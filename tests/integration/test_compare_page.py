"""The page that compares two executions, over HTTP: what it tells, what it hides, and every kind of bad input."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from control_center.dashboard.compare_executions import WINDOW
from orchestrator.outcome import Failed
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.executions import create_execution
from persistence.pool import Pool
from tests.drive import drive, submit
from tests.integration.test_api import api as api
from tests.read_page import field, words
from tests.workflows import FunctionTools, echo, sequence

SCRIPT = "<script>alert(1)</script>"
EXACT = 2**53 + 1


def ran(pool: Pool, answer: Any = echo, steps: int = 3, **request: Any) -> UUID:
    execution_id = submit(pool, sequence(steps), **request)
    drive(pool, execution_id, FunctionTools(echo=answer))
    return execution_id


def other(**given: Any) -> Any:
    """As `echo`, but for the second step."""
    more = {"note": SCRIPT, "exact": EXACT, "token": "hunter2", "text": "x" * 50_000, "line": "y" * 400}
    return given | more if given["value"] == 1 else given


def failing(**given: Any) -> Any:
    return Failed("tool_error", f"HTTP 503 {SCRIPT}") if given["value"] == 1 else given


def rows(answer: httpx.Response) -> list[str]:
    return re.findall(r'<tr id="step-\d+".*?</tr>', answer.text, re.DOTALL)


def compared(api: httpx.Client, **query: Any) -> httpx.Response:
    answer = api.get("/ui/compare", params=query)
    assert answer.status_code == 200, words(answer)
    return answer


def test_the_first_divergence_is_named_and_what_differs_is_shown_as_text(api: httpx.Client, pool: Pool) -> None:
    """Scripts escaped, secrets hidden, integers exact, and what is long is cut with a way to all of it."""
    a, b = ran(pool, title=f"A {SCRIPT}"), ran(pool, other)
    answer = compared(api, a=a, b=b)
    assert "First divergence at step step_1, in the output" in words(answer)
    assert 'href="#step-1">to that step' in answer.text
    assert f"A {SCRIPT}" in words(answer)
    assert f'"{SCRIPT}"' in words(answer)
    assert SCRIPT not in answer.text
    assert str(EXACT) in answer.text
    assert "hunter2" not in answer.text
    assert f'href="/ui/executions/{b}/steps/1">in B</a>' in answer.text
    assert "y" * 300 not in answer.text
    assert len(answer.content) < 20_000


def test_only_differences_and_swap_live_in_the_address(api: httpx.Client, pool: Pool) -> None:
    a, b = ran(pool), ran(pool, failing)
    assert len(rows(compared(api, a=a, b=b))) == 3
    answer = compared(api, a=a, b=b, only=1)
    assert len(rows(answer)) == 2
    assert f'href="/ui/compare?a={b}&b={a}&only=1">Swap' in unescape(answer.text)
    assert f"HTTP 503 {SCRIPT}" in words(answer)


def test_the_previous_good_run_is_found_for_the_beginning_of_an_id(api: httpx.Client, pool: Pool) -> None:
    """From the execution's page in one step; whatever A says."""
    good, bad = ran(pool), ran(pool, failing)
    assert f'href="/ui/compare?b={bad}&previousGood=1"' in api.get(f"/ui/executions/{bad}").text
    for query in ({"b": str(bad)[:30]}, {"a": "nonsense", "b": str(bad)}):
        answer = compared(api, previousGood="1", **query)
        assert str(good) in answer.text
        assert "in how it ended" in words(answer)


def test_what_cannot_be_compared_is_told_and_what_was_typed_stays(api: httpx.Client, pool: Pool) -> None:
    alone = str(ran(pool))
    for query, status, told in (
        ({"a": alone, "b": str(uuid4())}, 404, "no execution"),
        ({"a": alone, "b": alone[:30]}, 422, "the same execution"),
        ({"b": alone, "previousGood": "1"}, 404, "no execution of the same workflow has completed"),
        ({"a": alone, "b": ""}, 422, "two executions are needed"),
        ({"a": f"{SCRIPT}\0", "b": alone}, 422, "is not an execution id"),
    ):
        answer = api.get("/ui/compare", params=query)
        assert (answer.status_code, told in words(answer)) == (status, True), words(answer)
        assert [field(answer, name)[0] for name in ("a", "b")] == [query.get("a", ""), query["b"]]
    assert api.get("/ui/compare", params={"a": "x" * 101}).status_code == 422


@pytest.mark.parametrize("kept", [False, True], ids=["another-definition", "no-definition"])
def test_executions_with_little_in_common_are_compared(api: httpx.Client, pool: Pool, kept: bool) -> None:
    """Of another definition, or of none, without a step or with none that was done."""
    waiting = submit(pool, sequence(3))
    if kept:
        b, told = create_execution(pool, None, {"n": SCRIPT}, {}), "0 same, 0 changed, 0 only in B, 3 only in A"
    else:
        step = {"name": "step_0", "tool": "test.echo", "params": {"value": 0, "more": 1}}
        changed = validate({"name": "sequence", "steps": [step]})
        b = Submitter(pool, None).submit(changed, [Request(input={"n": 7})])[0].execution_id
        told = "0 same, 1 changed, 0 only in B, 2 only in A"
    answer = compared(api, a=waiting, b=b)
    assert told in words(answer)
    assert ("no definition to compare" if kept else "another definition") in words(answer)
    assert f'data-live="execution:{waiting} execution:{b}"' in answer.text


def test_what_has_ended_runs_nothing(api: httpx.Client, pool: Pool) -> None:
    """Whatever a worker has not heard of yet."""
    a, b = (submit(pool, sequence(1)) for _ in range(2))
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_steps SET status = 'running', dispatch_after = NULL")
        connection.execute("UPDATE workflow_executions SET status = 'cancelled' WHERE id = %s", (b,))
    row = unescape(re.sub("<[^>]*>", "", rows(compared(api, a=a, b=b))[0]))
    assert (row.count("running"), row.count("cancelled")) == (1, 1)


def test_many_steps_come_in_pages(api: httpx.Client, pool: Pool) -> None:
    """However many differ; the first divergence leads to its page."""
    steps = 2 * WINDOW + 1
    a, b = (submit(pool, sequence(steps)) for _ in range(2))
    with pool.connection() as connection:
        connection.execute(
            "UPDATE workflow_steps SET status = 'completed', output = %s WHERE execution_id = %s AND step_index = %s",
            (json.dumps({"late": True}), b, steps - 1),
        )
    answer = compared(api, a=a, b=b)
    assert len(rows(answer)) == WINDOW
    assert "page 1 of 3" in words(answer)
    assert f'&window=3#step-{steps - 1}">to that step' in unescape(answer.text)
    assert len(rows(compared(api, a=a, b=b, window=9))) == 1
    assert f'id="step-{steps - 1}"' in compared(api, a=a, b=b, only=1).text
