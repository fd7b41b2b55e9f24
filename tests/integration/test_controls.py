"""What an operator does with an execution: one test per promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.control import UNSET, Controller, Wish
from orchestrator.outcome import Failed
from orchestrator.run_in_memory import run_in_memory
from orchestrator.validate import validate
from persistence.errors import InvalidInput, NotFound, Refused
from persistence.executions import create_execution, get_execution, get_execution_steps
from persistence.pool import Pool, run
from persistence.transitions import Completion, ReadyStep, claim_step, complete_step
from tests.drive import drive, drive_some, status_of, submit
from tests.fleet import wait_until
from tests.threads import Running
from tests.workflows import FunctionTools, assert_invariants_at_rest, echo, sequence

BROKEN = Failed("tool_error", "it broke")


def wish(action: str, **more: Any) -> Wish:
    return Wish(action, actor="ada", reason="because", **more)


class Breaks:
    """`test.echo` that fails for one value until it is mended."""

    def __init__(self, at: int):
        self.at: int | None = at

    def __call__(self, **arguments: Any) -> Any:
        return BROKEN if arguments.get("value") == self.at else echo(**arguments)


def events(pool: Pool, execution_id: UUID) -> list[Mapping[str, Any]]:
    rows = run(pool, "get_execution_events", {"execution_id": execution_id})
    return [row for row in rows if row["event"] == "control"]


def statuses(pool: Pool, execution_id: UUID) -> str:
    """One letter per step."""
    return "".join(step["status"][0] for step in get_execution_steps(pool, execution_id))


def failed_at(pool: Pool, index: int, count: int) -> tuple[UUID, FunctionTools, Breaks]:
    breaks = Breaks(index)
    tools = FunctionTools(echo=breaks)
    execution_id = submit(pool, sequence(count, retry={"maxAttempts": 1}))
    assert drive(pool, execution_id, tools) == "failed"
    return execution_id, tools, breaks


def test_a_retry_of_the_60th_of_100_steps_calls_41_tools(pool: Pool) -> None:
    """It goes on from the failed step with all earlier outputs, as its preview said."""
    execution_id, tools, breaks = failed_at(pool, 59, 100)
    controller = Controller(pool, None)
    preview = controller.preview(execution_id, wish("retry"))
    assert [call.index for call in preview.calls] == list(range(59, 100))
    assert len(preview.reused) == 59
    assert preview.replaced == ("step_59",)
    breaks.at = None
    before = tools.calls["echo"]
    assert controller.carry_out(execution_id, wish("retry")).status == "running"
    assert drive(pool, execution_id, tools) == "completed"
    assert tools.calls["echo"] - before == 41
    assert_invariants_at_rest(pool, execution_id)
    row = get_execution(pool, execution_id)
    assert row is not None
    assert row["error"] is None
    assert row["output"]["v99"]["before"]["value"] == 98


def test_what_a_retry_replaces_is_kept(pool: Pool) -> None:
    """The failed result with its error, and who wanted it replaced, when and why."""
    execution_id, tools, breaks = failed_at(pool, 1, 3)
    breaks.at = None
    Controller(pool, None).carry_out(execution_id, wish("retry"))
    drive(pool, execution_id, tools)
    (kept,) = run(pool, "step_results", {"execution_id": execution_id})
    assert (kept["step_index"], kept["status"], kept["attempt"], kept["error"]) == (1, "failed", 1, "it broke")
    (event,) = events(pool, execution_id)
    assert (event["kind"], event["actor"], event["message"]) == ("retry", "ada", "because")
    assert event["detail"]["from"] == "failed"
    assert event["detail"]["error"] == "step step_1: it broke"
    assert event["id"] == kept["control"]


def test_a_retried_step_has_all_of_its_retries_again(pool: Pool) -> None:
    breaks = Breaks(0)
    tools = FunctionTools(echo=breaks)
    execution_id = submit(pool, sequence(1, retry={"maxAttempts": 3, "initialDelayMs": 100}))
    for attempts in (3, 6):
        assert drive(pool, execution_id, tools) == "failed"
        assert tools.calls["echo"] == attempts
        step = get_execution_steps(pool, execution_id)[0]
        assert step["attempt"] == attempts
        assert step["attempt"] == 1 + step["retry_count"] + step["released_count"]
        Controller(pool, None).carry_out(execution_id, wish("retry"))


def test_a_paused_execution_begins_nothing_and_goes_on_where_it_was(pool: Pool) -> None:
    tools = FunctionTools(echo=echo)
    execution_id = submit(pool, sequence(4))
    assert drive_some(pool, execution_id, tools, 2) == "running"
    controller = Controller(pool, None)
    assert controller.carry_out(execution_id, wish("pause")).status == "paused"
    assert drive(pool, execution_id, tools) == "paused"
    assert tools.calls["echo"] == 2
    assert run(pool, "dispatch_steps", {"limit": 10}) == []
    assert controller.carry_out(execution_id, wish("resume")).status == "running"
    assert drive(pool, execution_id, tools) == "completed"
    assert tools.calls["echo"] == 4
    assert [event["kind"] for event in events(pool, execution_id)] == ["pause", "resume"]


def test_a_step_that_runs_while_its_execution_is_paused_may_end(pool: Pool) -> None:
    """Its successor waits for the resumption; if it was the last one, the resumption completes the execution."""
    controller = Controller(pool, None)

    def pausing(**arguments: Any) -> Any:
        controller.carry_out(execution_id, wish("pause"))
        return echo(**arguments)

    tools = FunctionTools(echo=pausing)
    execution_id = submit(pool, sequence(2))
    assert drive(pool, execution_id, tools) == "paused"
    assert statuses(pool, execution_id) == "cp"
    controller.carry_out(execution_id, wish("resume"))
    assert drive(pool, execution_id, tools) == "paused"
    assert statuses(pool, execution_id) == "cc"
    assert controller.carry_out(execution_id, wish("resume")).status == "completed"
    row = get_execution(pool, execution_id)
    assert row is not None
    assert row["output"].keys() == {"v0", "v1"}


def test_the_time_of_a_pause_does_not_count_against_the_timeout(pool: Pool) -> None:
    execution_id = submit(pool, sequence(1, config={"timeoutMs": 60_000}))
    controller = Controller(pool, None)
    controller.carry_out(execution_id, wish("pause"))
    with pool.connection() as connection:
        connection.execute(
            "UPDATE workflow_executions SET paused_at = now() - interval '1 hour',"
            " deadline_at = now() - interval '59 minutes'"
        )
    assert run(pool, "expire_executions", {"limit": 10}) == []
    controller.carry_out(execution_id, wish("resume"))
    assert run(pool, "expire_executions", {"limit": 10}) == []
    assert status_of(pool, execution_id) == "running"


def test_a_cancelled_execution_goes_no_further(pool: Pool) -> None:
    """Its running step is named to its worker, what that returns changes nothing more, and retry goes on from there."""
    tools = FunctionTools(echo=echo)
    execution_id = submit(pool, sequence(3))
    drive_some(pool, execution_id, tools, 1)
    controller = Controller(pool, None)
    step = run(pool, "step_due", {"execution_id": execution_id})[0]
    worker = uuid4()
    assert claim_step(pool, ReadyStep(step["id"], step["attempt"]), worker, 1000) is not None
    assert run(pool, "stopped_steps", {"worker_id": worker})[0]["stopped"] == []
    done = controller.carry_out(execution_id, wish("cancel"))
    assert (done.status, done.allowed) == (
        "cancelled",
        ("retry", "rerun", "skip", "set-output", "decide", "fork", "replay"),
    )
    assert run(pool, "stopped_steps", {"worker_id": worker})[0]["stopped"] == [step["id"]]
    row = get_execution(pool, execution_id)
    assert row is not None
    assert row["error"] == "because"
    run(pool, "release_step", {"step_id": step["id"], "attempt": 1, "reason": "stopped", "unpriced": False})
    assert drive(pool, execution_id, tools) == "cancelled"
    controller.carry_out(execution_id, wish("retry"))
    assert drive(pool, execution_id, tools) == "completed"
    assert tools.calls["echo"] == 3
    assert_invariants_at_rest(pool, execution_id)


def test_a_rerun_from_a_step_runs_it_and_all_that_follow(pool: Pool) -> None:
    tools = FunctionTools(echo=echo)
    execution_id = submit(pool, sequence(5))
    drive(pool, execution_id, tools)
    controller = Controller(pool, None)
    preview = controller.preview(execution_id, wish("rerun", step="step_2"))
    assert preview.reused == ("step_0", "step_1")
    assert preview.replaced == ("step_2", "step_3", "step_4")
    controller.carry_out(execution_id, wish("rerun", step="step_2", input={"value": "edited"}))
    assert statuses(pool, execution_id) == "ccppp"
    row = get_execution(pool, execution_id)
    assert row is not None
    assert row["context"]["variables"].keys() == {"v0", "v1"}
    assert drive(pool, execution_id, tools) == "completed"
    assert tools.calls["echo"] == 8
    steps = get_execution_steps(pool, execution_id)
    assert steps[2]["input"] == {"value": "edited"}
    assert steps[3]["output"]["before"] == {"value": "edited"}
    assert [row["step_index"] for row in run(pool, "step_results", {"execution_id": execution_id})] == [2, 3, 4]
    assert_invariants_at_rest(pool, execution_id)


def test_a_failed_step_is_skipped_by_hand(pool: Pool) -> None:
    """Its variable is null, as that of any skipped step."""
    execution_id, tools, _ = failed_at(pool, 1, 3)
    Controller(pool, None).carry_out(execution_id, wish("skip", step="step_1"))
    assert drive(pool, execution_id, tools) == "completed"
    assert statuses(pool, execution_id) == "csc"
    assert get_execution_steps(pool, execution_id)[2]["output"]["before"] is None
    assert_invariants_at_rest(pool, execution_id)


def test_a_step_that_has_yet_to_come_is_skipped_when_its_turn_comes(pool: Pool) -> None:
    """While the execution runs; nothing overtakes."""
    tools = FunctionTools(echo=echo)
    execution_id = submit(pool, sequence(4))
    Controller(pool, None).carry_out(execution_id, wish("skip", step="2"))
    assert drive(pool, execution_id, tools) == "completed"
    assert statuses(pool, execution_id) == "ccsc"
    assert tools.calls["echo"] == 3


def test_an_output_is_set_by_hand(pool: Pool) -> None:
    """No tool is called for it, and what follows reads it."""
    execution_id, tools, _ = failed_at(pool, 1, 3)
    before = tools.calls["echo"]
    Controller(pool, None).carry_out(
        execution_id, wish("set-output", step="step_1", output={"by": "hand", "n": 2**53 + 1})
    )
    assert drive(pool, execution_id, tools) == "completed"
    assert tools.calls["echo"] - before == 1
    steps = get_execution_steps(pool, execution_id)
    assert steps[1]["output"] == {"by": "hand", "n": 2**53 + 1}
    assert steps[2]["output"]["before"] == {"by": "hand", "n": 2**53 + 1}


def test_an_output_that_the_tool_could_not_have_given_is_refused(pool: Pool) -> None:
    execution_id, _, _ = failed_at(pool, 1, 3)
    schema = (
        '[{"tool": "echo", "hash": "x", "repeatable": true, "output_schema": {"type": "object", "required": ["id"]}}]'
    )
    run(pool, "claim_refresh", {"server": "test", "repeat_unannotated": True, "ttl": 0})
    run(pool, "store_tools", {"server": "test", "era": "x", "tools": schema})
    with pytest.raises(Refused, match=r"does not fit the outputSchema of test\.echo: \$: 'id' is a required property"):
        Controller(pool, None).carry_out(execution_id, wish("set-output", step="step_1", output={}))
    assert statuses(pool, execution_id) == "cfp"
    assert events(pool, execution_id) == []


def test_a_fork_with_an_edit_calls_what_its_preview_said(pool: Pool) -> None:
    """The source is untouched, and both name each other."""
    execution_id, tools, breaks = failed_at(pool, 3, 5)
    source, rows = get_execution(pool, execution_id), get_execution_steps(pool, execution_id)
    controller = Controller(pool, None)
    wanted = wish("fork", step="step_2", variables={"v1": "edited"})
    preview = controller.preview(execution_id, wanted)
    assert (preview.reused, [call.index for call in preview.calls]) == (("step_0", "step_1"), [2, 3, 4])
    breaks.at = None
    before = tools.calls["echo"]
    forked = controller.carry_out(execution_id, wanted).execution_id
    assert drive(pool, forked, tools) == "completed"
    assert tools.calls["echo"] - before == 3
    steps = get_execution_steps(pool, forked)
    assert steps[1]["output"] == "edited"
    assert steps[2]["output"]["before"] == "edited"
    assert steps[4]["output"]["before"]["value"] == 3
    new = get_execution(pool, forked)
    assert new is not None
    assert new["output"]["v0"] == rows[0]["output"]
    assert (get_execution(pool, execution_id), get_execution_steps(pool, execution_id)) == (source, rows)
    assert events(pool, execution_id)[0]["detail"] == {"to": str(forked)}
    assert events(pool, forked)[0]["detail"] == {"of": str(execution_id)}


def test_a_fork_to_a_newer_definition_takes_over_what_is_before_its_first_step(pool: Pool) -> None:
    execution_id, tools, _ = failed_at(pool, 1, 3)
    newer = validate(
        {
            "name": "newer",
            "steps": [
                {"name": "step_0", "tool": "test.echo", "params": {}, "assign": "v0"},
                {"name": "mended", "tool": "test.echo", "params": {"value": "${v0.value}"}, "assign": "m"},
            ],
        }
    )
    controller = Controller(pool, None)
    forked = controller.carry_out(execution_id, wish("fork", step="mended", workflow=newer)).execution_id
    before = tools.calls["echo"]
    assert drive(pool, forked, tools) == "completed"
    assert tools.calls["echo"] - before == 1
    assert get_execution_steps(pool, forked)[1]["output"] == {"value": 0}
    lacking = validate(
        {"name": "x", "steps": [{"name": n, "tool": "test.echo", "params": {}} for n in ("other", "step_1")]}
    )
    with pytest.raises(Refused, match="has no result of it to take over"):
        controller.carry_out(execution_id, wish("fork", step="step_1", workflow=lacking))
    with pytest.raises(Refused, match="the definition has no step 'step_2'"):
        controller.carry_out(execution_id, wish("fork", step="step_2", workflow=lacking))


def test_a_fork_that_takes_everything_over_is_complete_at_once(pool: Pool) -> None:
    """A fork of a fork too, and a retry of one leaves the taken-over results."""
    tools = FunctionTools(echo=echo)
    execution_id = submit(pool, sequence(3))
    drive(pool, execution_id, tools)
    controller = Controller(pool, None)
    last = controller.carry_out(execution_id, wish("fork", step="step_2")).execution_id
    assert drive(pool, last, tools) == "completed"
    again = controller.carry_out(last, wish("fork", step="step_1")).execution_id
    assert drive(pool, again, tools) == "completed"
    assert tools.calls["echo"] == 3 + 1 + 2
    assert get_execution_steps(pool, again)[0]["attempt"] == 0


@pytest.mark.parametrize("params", [None, {"value": "${not.a.template}", "list": ["$${"]}])
def test_a_replay_runs_one_step_again_beside_the_old_result(pool: Pool, params: dict[str, Any] | None) -> None:
    """In an execution of its own; edited params are sent as they are."""
    tools = FunctionTools(echo=echo)
    execution_id = submit(pool, sequence(3))
    drive(pool, execution_id, tools)
    rows = get_execution_steps(pool, execution_id)
    controller = Controller(pool, None)
    wanted = wish("replay", step="step_1", input=UNSET if params is None else params)
    assert [call.tool for call in controller.preview(execution_id, wanted).calls] == ["test.echo"]
    replayed = controller.carry_out(execution_id, wanted).execution_id
    assert drive(pool, replayed, tools) == "completed"
    (step,) = get_execution_steps(pool, replayed)
    assert step["output"] == (rows[1]["output"] if params is None else params)
    assert get_execution_steps(pool, execution_id) == rows


def test_a_person_decides_what_became_of_a_call(pool: Pool) -> None:
    """Of a step that failed as outcome_unknown, and of no other."""
    tools = FunctionTools(echo=lambda **_: Failed("timeout", "no answer", "unknown"))
    tools.repeatable = False
    execution_id = submit(pool, sequence(2))
    assert drive(pool, execution_id, tools) == "failed"
    controller = Controller(pool, None)
    controller.carry_out(execution_id, wish("decide", step="step_0", decision="fail"))
    assert status_of(pool, execution_id) == "failed"
    (event,) = events(pool, execution_id)
    assert (event["kind"], event["detail"]) == ("decide", {"step": "step_0", "decision": "fail"})
    with pytest.raises(Refused, match="outcome_unknown"):
        controller.carry_out(execution_id, wish("decide", step="step_1", decision="fail"))
    with pytest.raises(InvalidInput, match="needs a decision"):
        controller.carry_out(execution_id, wish("decide", step="step_0"))
    controller.carry_out(execution_id, wish("decide", step="step_0", decision="done", output="done"))
    drive(pool, execution_id, tools)
    assert get_execution_steps(pool, execution_id)[0]["output"] == "done"


@pytest.mark.parametrize(("action", "more"), [("decide", {"decision": "done"}), ("set-output", {})])
def test_what_went_on_without_a_result_runs_again_with_it(pool: Pool, action: str, more: dict[str, Any]) -> None:
    """config.continueOnError: the execution has completed, with null where the step failed."""
    told = [Failed("timeout", "no answer", "unknown")]
    tools = FunctionTools(echo=lambda **arguments: told.pop() if told else echo(**arguments))
    tools.repeatable = False
    execution_id = submit(pool, sequence(2, config={"continueOnError": True}))
    assert drive(pool, execution_id, tools) == "completed"
    assert get_execution_steps(pool, execution_id)[1]["output"] == {"value": 1, "before": None}
    controller = Controller(pool, None)
    with pytest.raises(Refused, match="and step_1 is completed"):
        controller.carry_out(execution_id, wish("decide", step="step_1", decision="skip"))
    assert "decide" in controller.preview(execution_id, wish("skip", step="step_0")).allowed
    controller.carry_out(execution_id, wish(action, step="step_0", output="found", **more))
    assert drive(pool, execution_id, tools) == "completed"
    assert get_execution_steps(pool, execution_id)[1]["output"] == {"value": 1, "before": "found"}
    assert events(pool, execution_id)[0]["kind"] == action


@pytest.mark.parametrize(("kind", "name"), [("tool", "test.echo"), ("server", "test"), ("workflow", "sequence")])
def test_calls_that_are_held_wait(pool: Pool, kind: str, name: str) -> None:
    """New steps wait; the release makes them due at once."""
    tools = FunctionTools(echo=echo)
    controller = Controller(pool, None)
    execution_id = submit(pool, sequence(2))
    drive_some(pool, execution_id, tools, 1)
    assert controller.hold(kind, name, "ada", "it is being mended")
    assert not controller.hold(kind, name, "bob", None)
    assert drive_some(pool, execution_id, tools, 5) == "running"
    assert tools.calls["echo"] == 1
    assert [row["actor"] for row in run(pool, "list_holds")] == ["ada"]
    assert run(pool, "stuck_executions", {"limit": 10}) == []
    assert controller.release(kind, name) == 1
    assert [row["attempt"] for row in run(pool, "dispatch_steps", {"limit": 10})] == [0]
    assert drive(pool, execution_id, tools) == "completed"
    with pytest.raises(NotFound, match="is not held"):
        controller.release(kind, name)


def test_a_hold_of_something_else_holds_nothing(pool: Pool) -> None:
    """And a worker that goes on with a sequence looks too."""
    tools = FunctionTools(echo=echo)
    controller = Controller(pool, None)
    controller.hold("tool", "test.other", "ada", None)
    controller.hold("server", "tes", "ada", None)
    controller.hold("workflow", "test", "ada", None)
    assert drive(pool, submit(pool, sequence(3)), tools) == "completed"

    held = submit(pool, sequence(3))
    step = run(pool, "step_due", {"execution_id": held})[0]
    claim = claim_step(pool, ReadyStep(step["id"], 0), uuid4(), 1000)
    assert claim is not None
    controller.hold("tool", "test.echo", "ada", None)
    transition = complete_step(pool, Completion(claim, "1", "{}", hand_over=True), uuid4(), 1000)
    assert transition.successor is None
    assert [step.attempt for step in transition.ready] == [0]


@pytest.mark.parametrize(
    ("prepare", "wanted", "message"),
    [
        ("completed", wish("pause"), "an execution that is completed cannot be paused; it takes rerun, skip"),
        ("completed", wish("cancel"), "cannot be cancelled"),
        ("completed", wish("retry"), "cannot be retried"),
        ("running", wish("resume"), "cannot be resumed; it takes pause, cancel"),
        ("running", wish("rerun", step="step_0"), "cannot be rerun"),
        ("foreign", wish("cancel"), "is kept by its caller"),
    ],
)
def test_a_control_that_does_not_fit_is_refused_with_what_does(
    pool: Pool, prepare: str, wanted: Wish, message: str
) -> None:
    execution_id = create_execution(pool, None, {}, {}) if prepare == "foreign" else submit(pool, sequence(2))
    if prepare == "completed":
        drive(pool, execution_id, FunctionTools(echo=echo))
    before = get_execution(pool, execution_id)
    controller = Controller(pool, None)
    for act in (controller.preview, controller.carry_out):
        with pytest.raises(Refused, match=message) as refused:
            act(execution_id, wanted)
    assert refused.value.exit_code == 4
    assert refused.value.status == ("running" if prepare == "foreign" else prepare)
    assert get_execution(pool, execution_id) == before
    assert events(pool, execution_id) == []


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        (wish("rerun"), InvalidInput, "rerun needs a step"),
        (wish("rerun", step="nothing"), NotFound, "has no step 'nothing'"),
        (wish("rerun", step="99"), NotFound, "has no step '99'"),
        (wish("set-output", step="step_0"), InvalidInput, "an output is what set-output needs"),
        (wish("retry", output=1), InvalidInput, "an output is what set-output needs"),
        (wish("rerun", step="step_0", input=[1]), InvalidInput, "params are for one step, and an object"),
        (wish("explode"), InvalidInput, "unknown action 'explode'; there are pause, resume"),
        (wish("replay"), InvalidInput, "replay needs a step"),
    ],
)
def test_a_control_that_makes_no_sense_is_told_so(
    pool: Pool, wanted: Wish, error: type[Exception], message: str
) -> None:
    execution_id, _, _ = failed_at(pool, 1, 2)
    before = get_execution(pool, execution_id)
    with pytest.raises(error, match=message):
        Controller(pool, None).carry_out(execution_id, wanted)
    assert get_execution(pool, execution_id) == before


def test_an_unknown_execution_is_not_found(pool: Pool) -> None:
    with pytest.raises(NotFound, match="no execution"):
        Controller(pool, None).carry_out(uuid4(), wish("pause"))


def test_what_has_moved_meanwhile_is_not_touched(pool: Pool) -> None:
    """Of two contradicting controls the second finds another state, and says which."""
    execution_id, _, _ = failed_at(pool, 1, 3)
    controller = Controller(pool, None)
    facts = controller._look(execution_id)
    controller.carry_out(execution_id, wish("retry"))
    late = Controller(pool, None)
    late._look = lambda _: facts  # type: ignore[method-assign]
    with pytest.raises(Refused, match="has moved meanwhile: it is running now") as refused:
        late.carry_out(execution_id, wish("skip", step="step_1"))
    assert refused.value.allowed[:2] == ("pause", "cancel")
    assert [event["kind"] for event in events(pool, execution_id)] == ["retry"]


HELD = {
    "name": "s",
    "tool": "test.echo",
    "params": {"n": "${input.n}"},
    "assign": "v",
    "pauseWhen": "${result.n > 5 && v.n < 9}",
}


def test_what_a_step_answered_pauses_its_execution(pool: Pool) -> None:
    """Before anything follows; a person resumes it."""
    tools = FunctionTools(echo=echo)
    then = {"name": "t", "tool": "test.echo", "params": {}}
    execution_id = submit(pool, validate({"steps": [HELD, then]}))
    assert drive(pool, execution_id, tools) == "paused"
    assert statuses(pool, execution_id) == "cp"
    (event,) = events(pool, execution_id)
    assert (event["kind"], event["actor"]) == ("pause", "step s")
    assert event["message"] == "pauseWhen holds: ${result.n > 5 && v.n < 9}"
    Controller(pool, None).carry_out(execution_id, wish("resume"))
    assert drive(pool, execution_id, tools) == "completed"
    assert tools.calls["echo"] == 2
    assert drive(pool, submit(pool, validate({"steps": [HELD, then]}), input={"n": 3}), tools) == "completed"


def test_what_a_step_answered_fails_it(pool: Pool) -> None:
    """Not retried, and what it reads of earlier steps is there."""
    tools = FunctionTools(echo=echo)
    first = {"name": "a", "tool": "test.echo", "params": {"most": 5}, "assign": "limit"}
    red = {
        "name": "b",
        "tool": "test.echo",
        "params": {"n": "${input.n}"},
        "failWhen": "${result.n > limit.most}",
        "retry": {"maxAttempts": 3, "initialDelayMs": 100},
    }
    assert drive(pool, submit(pool, validate({"steps": [first, red]}), input={"n": 5}), tools) == "completed"
    execution_id = submit(pool, validate({"steps": [first, red]}), input={"n": 6})
    assert drive(pool, execution_id, tools) == "failed"
    step = get_execution_steps(pool, execution_id)[1]
    assert (step["error_kind"], step["attempt"]) == ("fail_when", 1)
    assert step["error"] == "failWhen holds: ${result.n > limit.most}"


def test_a_condition_on_a_result_that_cannot_be_decided_fails_the_step(pool: Pool) -> None:
    tools = FunctionTools(echo=echo)
    step = {**HELD, "pauseWhen": "${result.n > 'text'}"}
    execution_id = submit(pool, validate({"steps": [step]}))
    assert drive(pool, execution_id, tools) == "failed"
    assert "cannot be decided" in get_execution_steps(pool, execution_id)[0]["error"]


def test_in_memory_a_pause_ends_the_run(pool: Pool) -> None:
    then = {"name": "t", "tool": "test.echo", "params": {}}
    told = run_in_memory(validate({"steps": [HELD, then]}), {"input": {"n": 7}}, FunctionTools(echo=echo))
    assert (told.status, [step.status for step in told.steps]) == ("paused", ["completed", "pending"])


def test_a_step_that_ends_while_its_execution_is_resumed_is_followed(pool: Pool) -> None:
    """Its transaction saw the pause, so it makes nothing due; the resumption waits for it, and does."""
    execution_id = submit(pool, sequence(2))
    controller = Controller(pool, None)
    step = run(pool, "step_due", {"execution_id": execution_id})[0]
    claim = claim_step(pool, ReadyStep(step["id"], step["attempt"]), uuid4(), 1000)
    assert claim is not None
    controller.carry_out(execution_id, wish("pause"))
    record = f'[{{"step": "{claim.step_id}", "attempt": 1, "output": 1, "hand_over": false}}]'
    with pool.connection() as connection, connection.transaction():
        connection.execute("SELECT * FROM complete_steps(%s::jsonb, %s, 1000, false)", (record, uuid4())).fetchall()
        resuming = Running(lambda: controller.carry_out(execution_id, wish("resume")))
        wait_until(lambda: waits_for_a_lock(pool), 10, "the resumption's wait")
    assert resuming.result().status == "running"
    assert [row["due_in"] for row in run(pool, "step_due", {"execution_id": execution_id})] == [0]
    assert run(pool, "stuck_executions", {"limit": 1}) == []


def waits_for_a_lock(pool: Pool) -> bool:
    with pool.connection() as connection:
        row = connection.execute(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    return bool(row and row["n"])
