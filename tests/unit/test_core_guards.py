"""What an attempt hands over, what a worker keeps to itself, and whom a stop reaches."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from control_center.progress import step_objects
from control_center.timeline import render_execution
from orchestrator.advance import is_retryable
from orchestrator.attempt_step import attempt_step
from orchestrator.outcome import Cancelled, Failed, Succeeded
from orchestrator.plan import PlannedStep, plan
from orchestrator.run_in_memory import run_in_memory
from orchestrator.substitute import SecretReference, with_references
from orchestrator.validate import validate
from persistence.errors import InvalidInput
from persistence.transitions import Claim, ReadyStep
from tests.workflows import FunctionTools, echo, sequence
from workers.in_flight import Handed, InFlight
from workers.mcp_client import McpClient
from workers.secrets import Secrets
from workers.tools import Tools

EXECUTION = UUID("01890000-0000-7000-8000-000000000001")


class Recorder(FunctionTools):
    """Keeps how it was called, and shows params as a word."""

    asked: Mapping[str, Any]

    def call(self, server: str, tool: str, arguments: Mapping[str, Any], **options: Any) -> Succeeded:
        self.asked = {"server": server, "tool": tool, "arguments": arguments, **options}
        return Succeeded({"done": True})

    def shown(self, params: Any) -> Any:
        return {"shown": sorted(params)}


def planned(**more: Any) -> PlannedStep:
    return plan(validate({"steps": [{"name": "a", "tool": "t.x.y", "params": {"n": 1}, **more}]})).steps[0]


def claim(attempt: int = 1) -> Claim:
    return Claim(uuid4(), attempt, EXECUTION, 0, "hash", {}, 0)


def test_an_attempt_calls_the_tool_with_everything_it_may_need() -> None:
    """Seconds, one key for all attempts of the step, the trace of the execution, and the event that stops it."""
    tools, stop = Recorder(), threading.Event()
    attempt_step(claim(3), planned(timeoutMs=1500), tools, stop)
    trace = tools.asked["meta"]["traceparent"].split("-")
    assert (trace[0], trace[1], len(trace[2]), trace[3]) == ("00", EXECUTION.hex, 16, "01")
    assert {key: value for key, value in tools.asked.items() if key != "meta"} == {
        "server": "t",
        "tool": "x.y",
        "arguments": {"n": 1},
        "timeout": 1.5,
        "idempotency_key": f"{EXECUTION}:a",
        "cancelled": stop,
    }
    attempt_step(claim(), planned(), tools, stop)
    assert tools.asked["timeout"] is None


def test_an_attempt_keeps_the_params_as_they_may_be_shown() -> None:
    """Never as they were sent."""
    assert attempt_step(claim(), planned(), Recorder(), threading.Event()).params == {"shown": ["n"]}


@pytest.mark.parametrize("failure", ["not_executed", "unknown"])
def test_a_failure_that_is_not_the_tools_is_worth_another_attempt(failure: Any) -> None:
    """Whatever its kind and whatever the step names."""
    assert is_retryable(Failed("anything", "", failure), planned(retryOn=[]))
    assert not is_retryable(Failed("anything", "", "definite"), planned(retryOn=[]))


def test_a_run_in_memory_ends_at_its_timeout() -> None:
    """config.timeoutMs holds between steps."""
    pause = threading.Event()

    def slow(**arguments: Any) -> Any:
        pause.wait(1.05)
        return echo(**arguments)

    tools = FunctionTools(echo=slow)
    result = run_in_memory(sequence(3, config={"timeoutMs": 1000}), {"input": {"n": 1}}, tools)
    assert (result.status, tools.calls["echo"]) == ("failed", 1)
    assert "timeoutMs" in str(result.error)


def test_stopping_reaches_the_named_steps_only() -> None:
    """And none that has ended."""
    register, first, second = InFlight(), ReadyStep(uuid4(), 0), ReadyStep(uuid4(), 0)
    with register.only(first), register.only(second):
        one, two = register.cancelled(first), register.cancelled(second)
        register.cancel([first.step_id, uuid4()])
        assert (one.is_set(), two.is_set()) == (True, False)
        assert register.cancel_all() == 2
        assert two.is_set()
    assert register.cancel_all() == 0


def test_one_thread_at_a_time_has_an_attempt() -> None:
    """A second message of it finds it taken; the step's next attempt is another matter, also while the first returns."""
    register, step_id = InFlight(), uuid4()
    assert register.begin(ReadyStep(step_id, 0))
    assert not register.begin(ReadyStep(step_id, 0))
    assert register.begin(ReadyStep(step_id, 1))
    register.end(ReadyStep(step_id, 0))
    assert register.begin(ReadyStep(step_id, 0))


def test_nothing_begins_once_closed() -> None:
    """What runs goes on."""
    register, running = InFlight(), ReadyStep(uuid4(), 0)
    register.begin(running)
    register.close()
    assert not register.begin(ReadyStep(uuid4(), 0))
    assert not register.cancelled(running).is_set()


def test_a_step_that_was_handed_over_begins_although_closed() -> None:
    """It is claimed already: whoever begins it hands it back. Nobody else's attempt of it does."""
    register = InFlight()
    handed = Handed(claim(3), 5, 0.5)
    step = register.hand(handed)
    assert step == ReadyStep(handed.claim.step_id, 2)
    register.close()
    assert not register.begin(ReadyStep(handed.claim.step_id, 3))
    assert register.begin(step)
    assert not register.begin(step)


def test_a_claim_that_was_handed_over_is_taken_once() -> None:
    """By the thread that begins it, or by whoever hands the rest back."""
    register = InFlight()
    one, other = Handed(claim(), 1, 0.0), Handed(claim(), 1, 0.0)
    step = register.hand(one)
    register.hand(other)
    assert register.take_handed(ReadyStep(step.step_id, 1)) is None
    assert register.take_handed(step) is one
    assert register.take_handed(step) is None
    assert register.take_all_handed() == [other.claim]
    assert register.take_all_handed() == []


def test_secrets_come_from_variables_and_files(tmp_path: Path) -> None:
    """A file without its last line break; folders and other variables play no part."""
    (tmp_path / "FILE").write_text("from-file\n")
    (tmp_path / "..data").mkdir()
    environ = {"AFU9_SECRET_ENV": "from-env", "AFU9_SECRET_": "nameless", "HOME": "/root"}
    secrets = Secrets.from_environment(environ, tmp_path)
    asked = with_references({"a": {"$secret": "FILE"}, "b": {"$secret": "ENV"}})
    assert secrets.resolve(asked) == {"a": "from-file", "b": "from-env"}
    assert secrets.blot(["x from-file", "/root", "nameless"]) == ["x [redacted]", "/root", "nameless"]
    for unknown in ("", "HOME"):
        with pytest.raises(InvalidInput):
            secrets.resolve(SecretReference({"$secret": unknown}))


class Answering(McpClient):
    """A client whose one answer is given."""

    def __init__(self, answer: Succeeded | Failed | Cancelled):
        super().__init__({})
        self.answer = answer

    def call(self, *arguments: Any, **options: Any) -> Succeeded | Failed | Cancelled:
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        Succeeded({"text": "it was t0psecret"}, {"note": "t0psecret"}),
        Failed("tool_error", "t0psecret is wrong", "definite", None, {"detail": "t0psecret"}),
    ],
)
def test_no_part_of_an_answer_holds_a_known_secret(answer: Succeeded | Failed) -> None:
    """Output, meta and message alike."""
    client = Answering(answer)
    try:
        tools = Tools(client, Secrets({"S": "t0psecret"}), lambda *_: None, 1000)
        outcome = tools.call("s", "t", {"value": SecretReference({"$secret": "S"})})
    finally:
        client.close()
    assert type(outcome) is type(answer)
    assert "t0psecret" not in repr(outcome)
    assert repr(outcome).count("[redacted]") == 2


def test_what_people_are_shown_hides_what_telling_keys_hold() -> None:
    """The rows keep it, because later steps read it; the timeline and the JSON result do not show it."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    output = {"password": "hunter22"}
    execution = {
        "id": EXECUTION,
        "status": "completed",
        "title": None,
        "workflow_name": None,
        "started_at": moment,
        "completed_at": moment,
        "error": None,
        "output": output,
    }
    assert "hunter22" not in "\n".join(render_execution(execution, [], []))
    keys = ("id", "step_name", "step_index", "status", "tool", "input", "started_at", "completed_at", "duration_ms")
    row = dict.fromkeys((*keys, "error", "error_kind", "retry_count", "override", "reused_from")) | {"output": output}
    assert step_objects([row])[0]["output"] == {"password": "[redacted]"}
