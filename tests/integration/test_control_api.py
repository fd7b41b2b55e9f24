"""Controls over HTTP: each of them, what each refuses, and that of two at once one wins."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from control_center.keys import Trust
from control_center.source.http import open_http
from persistence.executions import create_execution, get_execution_steps
from persistence.pool import Pool, run
from persistence.settings import Settings
from persistence.transitions import ReadyStep
from tests.api_server import running_api
from tests.drive import drive, drive_some, submit
from tests.integration.test_api import ECHO, make_key, problem, started
from tests.integration.test_controls import failed_at
from tests.integration.test_transitions import WORKER, catalogue, renew, silence, take
from tests.workflows import FunctionTools, echo, sequence


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx.Client]:
    with running_api(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def ask(api: httpx.Client, execution_id: object, action: str, **body: Any) -> httpx.Response:
    return api.post(f"/api/workflow/execution/{execution_id}/{action}", json=body)


def done(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def detail(api: httpx.Client, execution_id: object) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/api/workflow/execution/{execution_id}").json()
    return found


def controls(api: httpx.Client, execution_id: object) -> list[dict[str, Any]]:
    events = api.get(f"/api/workflow/execution/{execution_id}/events").json()["events"]
    return [event for event in events if event["event"] == "control"]


def ended(pool: Pool, count: int = 3) -> tuple[UUID, FunctionTools]:
    tools = FunctionTools(echo=echo)
    execution_id = submit(pool, sequence(count))
    assert drive(pool, execution_id, tools) == "completed"
    return execution_id, tools


def test_a_running_execution_is_paused_resumed_and_cancelled(api: httpx.Client, pool: Pool) -> None:
    """Each answer says how it stands and what it takes; who and why are in its history."""
    execution_id = submit(pool, sequence(2))
    paused = done(ask(api, execution_id, "pause", reason="too hot"))
    assert (paused["executionId"], paused["action"], paused["status"]) == (str(execution_id), "pause", "paused")
    assert paused["url"] == f"/api/workflow/execution/{execution_id}"
    assert paused["allowedActions"] == detail(api, execution_id)["execution"]["allowedActions"]
    assert {"resume", "cancel"} <= set(paused["allowedActions"])
    assert done(ask(api, execution_id, "resume"))["status"] == "running"
    assert done(api.post(f"/api/workflow/execution/{execution_id}/cancel"))["status"] == "cancelled"
    told = [(event["kind"], event["actor"], event["message"]) for event in controls(api, execution_id)]
    assert told == [
        ("pause", "anonymous", "too hot"),
        ("resume", "anonymous", None),
        ("cancel", "anonymous", None),
    ]
    assert controls(api, execution_id)[0]["detail"] == {"from": "running"}


def test_a_retry_goes_on_from_the_failed_step_as_its_dry_run_said(api: httpx.Client, pool: Pool) -> None:
    """The dry run changes nothing; what was replaced can be read; the listing says what it takes."""
    catalogue(pool, repeatable=True)
    execution_id, tools, breaks = failed_at(pool, 1, 3)
    before = detail(api, execution_id)
    answer = ask(api, execution_id, "retry", dryRun=True)
    assert answer.status_code == 200
    preview = answer.json()
    assert (preview["dryRun"], preview["status"], preview["action"]) == (True, "failed", "retry")
    assert (preview["reused"], preview["replaced"]) == (["step_0"], ["step_1"])
    assert preview["calls"] == [
        {"step": "step_1", "index": 1, "tool": "test.echo", "changes": None, "conditional": False},
        {"step": "step_2", "index": 2, "tool": "test.echo", "changes": None, "conditional": False},
    ]
    assert detail(api, execution_id) == before
    assert controls(api, execution_id) == []
    (row,) = api.get("/api/workflow/executions").json()["executions"]
    assert row["allowedActions"] == before["execution"]["allowedActions"] == preview["allowedActions"]
    breaks.at = None
    assert done(ask(api, execution_id, "retry", reason="mended"))["status"] == "running"
    assert drive(pool, execution_id, tools) == "completed"
    (kept,) = api.get(f"/api/workflow/execution/{execution_id}/results").json()["results"]
    assert (kept["index"], kept["status"], kept["error"]) == (1, "failed", "it broke")
    (event,) = controls(api, execution_id)
    assert (kept["control"], event["message"]) == (event["id"], "mended")


@pytest.mark.parametrize("word", ["step", "fromStep"])
def test_a_rerun_takes_its_first_step_by_two_names(api: httpx.Client, pool: Pool, word: str) -> None:
    """`fromStep` reads better where it is a beginning."""
    execution_id, tools = ended(pool)
    assert done(ask(api, execution_id, "rerun", **{word: "step_1"}))["status"] == "running"
    assert drive(pool, execution_id, tools) == "completed"
    assert tools.calls["echo"] == 5


def test_params_are_replaced_for_one_attempt(api: httpx.Client, pool: Pool) -> None:
    """And the step says so, before it and after."""
    execution_id, tools = ended(pool)
    done(ask(api, execution_id, "rerun", step="2", input={"value": "by hand"}))
    assert detail(api, execution_id)["steps"][2]["override"] == {"input": {"value": "by hand"}}
    drive(pool, execution_id, tools)
    step = detail(api, execution_id)["steps"][2]
    assert (step["output"], step["override"]) == ({"value": "by hand"}, {"input": {"value": "by hand"}})


def test_a_failed_step_is_skipped_or_given_an_output(api: httpx.Client, pool: Pool) -> None:
    """Null is an output too."""
    for action, more, output in (
        ("skip", {}, None),
        ("set-output", {"output": None}, None),
        ("set-output", {"output": [1]}, [1]),
    ):
        execution_id, tools, _ = failed_at(pool, 1, 3)
        done(ask(api, execution_id, action, step="step_1", **more))
        assert drive(pool, execution_id, tools) == "completed"
        step = detail(api, execution_id)["steps"][1]
        assert (step["status"], step["output"]) == ("skipped" if action == "skip" else "completed", output)
        assert tools.calls["echo"] == 3


def uncertain(pool: Pool) -> UUID:
    """An execution whose first step may or may not have been carried out."""
    catalogue(pool, repeatable=False)
    execution_id = submit(pool, sequence(2))
    renew(pool, WORKER)
    row = get_execution_steps(pool, execution_id)[0]
    take(pool, ReadyStep(row["id"], 0))
    silence(pool, WORKER)
    run(pool, "reap_steps", {"silence": 30, "max_lost": 3, "limit": 100})
    assert get_execution_steps(pool, execution_id)[0]["error_kind"] == "outcome_unknown"
    return execution_id


@pytest.mark.parametrize(
    ("decision", "more", "status", "calls"),
    [
        ("retry", {}, "completed", 2),
        ("done", {"output": {"made": 1}}, "completed", 1),
        ("skip", {}, "completed", 1),
        ("fail", {}, "failed", 0),
    ],
)
def test_a_person_decides_what_became_of_a_call(
    api: httpx.Client, pool: Pool, decision: str, more: dict[str, Any], status: str, calls: int
) -> None:
    """Nothing else can know."""
    execution_id = uncertain(pool)
    tools = FunctionTools(echo=echo)
    done(ask(api, execution_id, "decide", step="step_0", decision=decision, reason="I looked", **more))
    assert "decide" in detail(api, execution_id)["execution"]["allowedActions"] or status != "failed"
    assert controls(api, execution_id)[0]["kind"] == "decide"
    if status != "failed":
        drive(pool, execution_id, tools)
    assert detail(api, execution_id)["execution"]["status"] == status
    assert tools.calls["echo"] == calls
    assert controls(api, execution_id)[0]["message"] == "I looked"


def test_the_former_word_for_leaving_a_step_failed_is_still_understood(api: httpx.Client, pool: Pool) -> None:
    """`fail`; the answer and the history say decide, as allowedActions does."""
    execution_id = uncertain(pool)
    made = done(ask(api, execution_id, "fail", step="step_0"))
    assert (made["action"], made["status"]) == ("decide", "failed")
    assert "decide" in made["allowedActions"]
    assert "fail" not in made["allowedActions"]
    assert controls(api, execution_id)[0]["detail"] == {"step": "step_0", "decision": "fail"}
    problem(ask(api, execution_id, "fail", step="step_0", decision="retry"), 422, "invalid-request")


def test_a_fork_is_a_new_execution(api: httpx.Client, pool: Pool) -> None:
    """With the results before its first step, edited or not; the answer and Location say where it is."""
    execution_id, tools = ended(pool)
    answer = ask(api, execution_id, "fork", fromStep="step_2", variables={"v1": "edited"})
    made = done(answer)
    assert made["executionId"] != str(execution_id)
    assert answer.headers["location"] == made["url"]
    found = detail(api, made["executionId"])
    assert found["execution"]["forkedFrom"] == str(execution_id)
    source = detail(api, execution_id)
    assert found["steps"][0]["reusedFrom"] == source["steps"][0]["id"]
    drive(pool, UUID(made["executionId"]), tools)
    assert detail(api, made["executionId"])["steps"][2]["output"] == {"value": 2, "before": "edited"}
    assert detail(api, execution_id) == source
    assert controls(api, execution_id)[0]["detail"] == {"to": made["executionId"]}


def test_a_fork_takes_another_definition_by_name_or_whole(api: httpx.Client, pool: Pool) -> None:
    """A named one's newest version; one that comes along is checked like any other, with the source's context."""
    execution_id, _ = ended(pool)
    other = sequence(4).model_dump(by_alias=True, exclude_unset=True, mode="json") | {"name": "longer"}
    registered = api.post("/api/workflow/workflows", json={"definition": other})
    assert registered.status_code == 201
    for way in ({"workflow": "longer"}, {"definition": other}):
        made = done(ask(api, execution_id, "fork", step="step_3", **way))
        found = detail(api, made["executionId"])
        assert (found["execution"]["workflow"], [step["status"] for step in found["steps"]][-2:]) == (
            "longer",
            ["completed", "pending"],
        )
        of = registered.json()["id"] if "workflow" in way else None
        assert found["execution"]["workflowId"] == of
        again = done(ask(api, UUID(made["executionId"]), "fork"))
        assert detail(api, again["executionId"])["execution"]["workflowId"] == of
    listed = api.get("/api/workflow/executions?workflow=longer").json()["executions"]
    assert [one["workflowId"] for one in listed] == [registered.json()["id"]] * 2
    broken = {"steps": [{"name": "A B", "tool": "test.echo", "params": {"x": "${nobody}"}}]}
    problem(ask(api, execution_id, "fork", definition=broken), 422, "invalid-definition")
    problem(ask(api, execution_id, "fork", workflow="longer", definition=other), 422, "invalid-request")
    problem(ask(api, execution_id, "fork", workflow="unheard of"), 404, "not-found")
    api.post("/api/workflow/workflows/longer/disable")
    problem(ask(api, execution_id, "fork", workflow="longer"), 409, "workflow-disabled")


def test_a_replay_runs_one_step_alone(api: httpx.Client, pool: Pool) -> None:
    """With the variables as they are, or with other params."""
    execution_id, tools = ended(pool)
    made = done(ask(api, execution_id, "replay", step="step_1", input={"value": "alone"}))
    assert drive(pool, UUID(made["executionId"]), tools) == "completed"
    (step,) = detail(api, made["executionId"])["steps"]
    assert (step["name"], step["output"]) == ("step_1", {"value": "alone"})


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("rerun", {}),
        ("rerun", {"step": "step_0", "output": 1}),
        ("rerun", {"step": "step_0", "fromStep": "step_0"}),
        ("skip", {"fromStep": "step_0"}),
        ("skip", {"step": "step_0", "input": {}}),
        ("set-output", {"step": "step_0"}),
        ("rerun", {"step": "step_0", "input": [1]}),
        ("rerun", {"step": 0}),
        ("rerun", {"step": "step_0", "variables": {}}),
        ("rerun", {"step": "step_0", "decision": "retry"}),
        ("decide", {"step": "step_0"}),
        ("decide", {"decision": "skip"}),
        ("decide", {"step": "step_0", "decision": "done"}),
        ("decide", {"step": "step_0", "decision": "maybe"}),
        ("replay", {}),
        ("rerun", {"step": "step_0", "why": "because"}),
        ("rerun", {"step": "step_0", "reason": "x\0y"}),
        ("set-output", {"step": "step_0", "output": "x\0y"}),
        ("explode", {}),
    ],
)
def test_a_control_that_makes_no_sense_is_told_so(
    api: httpx.Client, pool: Pool, action: str, body: dict[str, Any]
) -> None:
    """422, and nothing has happened."""
    execution_id, _ = ended(pool, 1)
    before = detail(api, execution_id)
    problem(ask(api, execution_id, action, **body), 422, "invalid-request")
    if not any("\0" in str(value) for value in body.values()):
        problem(ask(api, execution_id, action, **body, dryRun=True), 422, "invalid-request")
    assert detail(api, execution_id) == before
    assert controls(api, execution_id) == []
    assert api.get("/api/workflow/executions").json()["total"] == 1


@pytest.mark.parametrize("dry", [True, False])
def test_a_control_that_does_not_fit_is_refused_with_what_does(api: httpx.Client, pool: Pool, dry: bool) -> None:
    """409 with the execution's status and the actions that it takes."""
    execution_id, _ = ended(pool)
    for action in ("pause", "resume", "cancel", "retry"):
        body = problem(ask(api, execution_id, action, dryRun=dry), 409, "action-refused")
        assert body["executionStatus"] == "completed"
        assert body["allowedActions"] == ["rerun", "skip", "set-output", "decide", "fork", "replay"]
    running = submit(pool, sequence(2))
    body = problem(ask(api, running, "rerun", step="step_0", dryRun=dry), 409, "action-refused")
    assert (body["executionStatus"], "pause" in body["allowedActions"]) == ("running", True)
    problem(ask(api, running, "pause", step="step_0", dryRun=dry), 422, "invalid-request")
    assert controls(api, execution_id) == controls(api, running) == []


def test_what_nobody_knows_is_not_found(api: httpx.Client, pool: Pool) -> None:
    """An execution, or a step of one; a misspelt id is a fault of the request."""
    execution_id, _ = ended(pool)
    problem(ask(api, uuid4(), "pause"), 404, "not-found")
    problem(ask(api, uuid4(), "fork", definition=ECHO), 404, "not-found")
    problem(ask(api, execution_id, "rerun", step="step_9"), 404, "not-found")
    problem(ask(api, "not-a-uuid", "pause"), 422, "invalid-request")
    problem(api.get(f"/api/workflow/execution/{uuid4()}/results"), 404, "not-found")
    problem(api.post(f"/api/workflow/execution/{execution_id}/rerun?dryRun=true"), 400, "unknown-parameter")


def test_an_execution_that_its_caller_keeps_takes_no_control(api: httpx.Client, pool: Pool) -> None:
    """The fleet does not run it, so nobody but its caller moves it."""
    execution_id = create_execution(pool, None, {}, {})
    for action in ("pause", "cancel", "fork"):
        body = problem(ask(api, execution_id, action), 409, "action-refused")
        assert (body["executionStatus"], body["allowedActions"]) == ("running", [])
    assert detail(api, execution_id)["execution"]["allowedActions"] == []
    assert detail(api, execution_id)["execution"]["status"] == "running"


@pytest.fixture
def guarded(settings: Settings) -> Iterator[str]:
    with running_api(settings, Trust(keys=True)) as url:
        yield url


def test_controls_are_for_operators_and_audited(guarded: str, pool: Pool) -> None:
    """Who may look sees holds and jobs; the actor is the key's name."""
    execution_id = submit(pool, sequence(1))

    def as_role(role: str) -> httpx.Client:
        return httpx.Client(base_url=guarded, headers={"Authorization": f"Bearer {make_key(pool, role)}"})

    for role in ("viewer", "submitter"):
        with as_role(role) as other:
            problem(ask(other, execution_id, "pause"), 403, "forbidden")
            problem(ask(other, execution_id, "pause", dryRun=True), 403, "forbidden")
            problem(other.put("/api/workflow/holds/tool/test.echo"), 403, "forbidden")
            problem(other.delete("/api/workflow/holds/tool/test.echo"), 403, "forbidden")
            bulk = {"action": "pause", "ids": [str(execution_id)]}
            problem(other.post("/api/workflow/executions/bulk", json=bulk), 403, "forbidden")
            assert other.get("/api/workflow/holds").json() == {"holds": [], "total": 0}
            problem(other.get(f"/api/workflow/jobs/{uuid4()}"), 404, "not-found")
    with as_role("operator") as operator:
        done(ask(operator, execution_id, "pause", reason="why not"))
        problem(ask(operator, execution_id, "pause"), 409, "action-refused")
        done(ask(operator, execution_id, "cancel"))
        assert operator.put("/api/workflow/holds/tool/test.echo", json={"reason": "x"}).status_code == 201
        assert operator.delete("/api/workflow/holds/tool/test.echo").status_code == 200
        assert controls(operator, execution_id)[0]["actor"] == "a operator"
    with pool.connection() as connection:
        rows = connection.execute("SELECT principal, action, target, detail FROM audit_log ORDER BY id").fetchall()
    assert [(row["action"], row["target"], row["detail"]) for row in rows] == [
        ("execution.pause", str(execution_id), {"reason": "why not"}),
        ("execution.cancel", str(execution_id), {}),
        ("tool.hold", "test.echo", {"reason": "x"}),
        ("tool.release", "test.echo", {"waiting": 0}),
    ]
    assert {row["principal"] for row in rows} == {"a operator"}


def both(api: httpx.Client, execution_id: UUID, *wishes: tuple[str, dict[str, Any]]) -> list[httpx.Response]:
    """All at the same moment, each on a connection of its own."""
    gate = threading.Barrier(len(wishes))

    def one(wish: tuple[str, dict[str, Any]]) -> httpx.Response:
        with httpx.Client(base_url=api.base_url, timeout=30) as client:
            client.get("/healthz")
            gate.wait()
            return ask(client, execution_id, wish[0], **wish[1])

    with ThreadPoolExecutor(len(wishes)) as threads:
        return list(threads.map(one, wishes))


def test_of_contradicting_controls_exactly_one_is_done(api: httpx.Client, pool: Pool) -> None:
    """The others are told how the execution stands now; the history has one control."""
    for _ in range(5):
        execution_id, _, _ = failed_at(pool, 1, 3)
        answers = both(
            api,
            execution_id,
            ("retry", {}),
            ("rerun", {"step": "step_0"}),
            ("rerun", {"step": "step_1"}),
            ("retry", {"step": "step_1", "input": {"value": 5}}),
        )
        won = [answer for answer in answers if answer.status_code == 202]
        assert len(won) == 1, [answer.text for answer in answers]
        for answer in answers:
            if answer is not won[0]:
                assert problem(answer, 409, "action-refused")["executionStatus"] == "running"
        assert [event["kind"] for event in controls(api, execution_id)] == [won[0].json()["action"]]


def test_of_two_equal_controls_one_is_done(api: httpx.Client, pool: Pool) -> None:
    """Two who press the same button."""
    for _ in range(5):
        execution_id = submit(pool, sequence(1))
        answers = both(api, execution_id, ("cancel", {}), ("cancel", {}))
        assert sorted(answer.status_code for answer in answers) == [202, 409]
        assert len(controls(api, execution_id)) == 1


@pytest.mark.parametrize(("kind", "name"), [("tool", "test.echo"), ("server", "test"), ("workflow", "sequence")])
def test_a_hold_keeps_steps_waiting_until_it_is_released(api: httpx.Client, pool: Pool, kind: str, name: str) -> None:
    """Holding twice is holding once; what waited is counted at the release, and a second release is not found."""
    path = f"/api/workflow/holds/{kind}/{name}"
    held = api.put(path, json={"reason": "it hurts"})
    assert held.status_code == 201
    assert (held.json()["kind"], held.json()["name"], held.json()["reason"]) == (kind, name, "it hurts")
    again = api.put(path)
    assert (again.status_code, again.json()) == (200, held.json())
    assert api.get("/api/workflow/holds").json() == {"holds": [held.json()], "total": 1}
    execution_id = submit(pool, sequence(1))
    tools = FunctionTools(echo=echo)
    assert drive_some(pool, execution_id, tools, 1) == "running"
    assert tools.calls["echo"] == 0
    assert api.delete(path).json() == {"kind": kind, "name": name, "waiting": 1}
    assert drive(pool, execution_id, tools) == "completed"
    problem(api.delete(path), 404, "not-found")


def test_bad_holds_are_problems(api: httpx.Client) -> None:
    """A tool's name may have a slash."""
    problem(api.put("/api/workflow/holds/person/ada"), 422, "invalid-request")
    problem(api.put(f"/api/workflow/holds/tool/{'x' * 256}"), 422, "invalid-request")
    problem(api.put("/api/workflow/holds/tool/a%00b"), 422, "invalid-request")
    problem(api.put("/api/workflow/holds/tool/a.b?force=1"), 400, "unknown-parameter")
    assert api.put("/api/workflow/holds/tool/files.read%2Fall").json()["name"] == "files.read/all"


def test_an_unknown_outcome_is_the_only_one_to_be_left_as_failed(api: httpx.Client, pool: Pool) -> None:
    """Whatever else failed has failed; and a decision is about a step, not about all that failed."""
    execution_id, _, _ = failed_at(pool, 1, 3)
    problem(ask(api, execution_id, "decide", decision="retry"), 422, "invalid-request")
    body = problem(ask(api, execution_id, "decide", step="step_1", decision="fail"), 409, "action-refused")
    assert body["executionStatus"] == "failed"


def test_no_payload_is_shown_where_it_is_hidden(api: httpx.Client, pool: Pool) -> None:
    """An override is one; texts under telling keys are shown nowhere."""
    execution_id, _ = ended(pool)
    done(ask(api, execution_id, "rerun", step="2", input={"password": "hunter22", "value": 1}))
    assert "hunter22" not in api.get(f"/api/workflow/execution/{execution_id}").text
    assert "hunter22" not in api.get(f"/api/workflow/execution/{execution_id}/events").text
    hidden = api.get(f"/api/workflow/execution/{execution_id}?hide=input").json()
    assert hidden["steps"][2]["override"] is None


def test_an_etag_changes_with_every_control(api: httpx.Client, pool: Pool) -> None:
    """A page that follows by ETag must not show the state before."""
    execution_id = submit(pool, sequence(2))
    seen = set()
    steps: list[tuple[str, dict[str, Any]]] = [("pause", {}), ("skip", {"step": "1"}), ("resume", {}), ("cancel", {})]
    for action, body in steps:
        done(ask(api, execution_id, action, **body))
        seen.add(api.get(f"/api/workflow/execution/{execution_id}").headers["etag"])
    assert len(seen) == len(steps)


def test_starting_needs_no_operator_and_controls_do_not_hinder_it(api: httpx.Client) -> None:
    """A start's route is not shadowed by a control's."""
    assert detail(api, started(api))["execution"]["forkedFrom"] is None


def test_the_state_of_a_past_moment_is_told_over_http(api: httpx.Client, pool: Pool) -> None:
    """As the state object itself, by the client and to the command line; outputs under telling keys are not shown."""
    execution_id = submit(pool, sequence(2))
    tools = FunctionTools(echo=lambda **given: {"token": "abc", **given})
    drive_some(pool, execution_id, tools, 1)
    between = datetime.now(UTC)
    drive(pool, execution_id, tools)
    address = f"/api/workflow/execution/{execution_id}/state"
    now, then = api.get(address).json(), api.get(address, params={"at": between.isoformat()}).json()
    assert [step["status"] for step in now["steps"]] == ["completed", "completed"]
    assert [step["status"] for step in then["steps"]] == ["completed", "pending"]
    assert (now["status"], then["status"]) == ("completed", "running")
    assert now["steps"][0]["output"]["token"] == "[redacted]"
    with open_http(str(api.base_url), None, None) as source:
        assert source.state(execution_id, between) == then
    early = api.get(address, params={"at": "2020-01-01T00:00:00Z"})
    assert (early.status_code, early.json()["type"]) == (404, "https://afu9.dev/problems/not-found")
