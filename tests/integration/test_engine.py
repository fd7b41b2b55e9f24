"""WorkflowEngine: one execution in the caller's process, with and without a database."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from orchestrator.outcome import Failed
from orchestrator.plan import plan
from orchestrator.price import Price
from orchestrator.submit import Request, Submitter
from persistence.executions import get_execution, get_recent_executions
from persistence.pool import Pool, run
from persistence.settings import Settings
from persistence.transitions import claim_step
from tests.workflows import FunctionTools, assert_invariants_at_rest, echo, sequence
from workers.engine import ExecutionResult, WorkflowEngine

QUICK = {"maxAttempts": 3, "initialDelayMs": 100, "backoff": "fixed"}


def fails(times: int, kind: str = "tool_error") -> Any:
    """A tool that fails its first calls."""
    left = [times]

    def tool(**arguments: Any) -> Any:
        if left[0]:
            left[0] -= 1
            return Failed(kind, "not yet", "definite")
        return echo(**arguments)

    return tool


@pytest.fixture(params=["persisted", "in memory"])
def engine_of(request: pytest.FixtureRequest, settings: Settings, pool: Pool) -> Any:
    """Makes an engine; both kinds must tell the same story."""

    def make(tools: FunctionTools) -> WorkflowEngine:
        persisted = request.param == "persisted"
        return WorkflowEngine(tools, persistence=persisted, pool=pool if persisted else None, settings=settings)

    return make


def story(result: ExecutionResult) -> list[tuple[str, str, Any, int]]:
    return [(step.name, step.status, step.output, step.retry_count) for step in result.steps]


def test_a_sequence_completes_with_its_variables(engine_of: Any) -> None:
    """Status, output and steps are the same with and without a database."""
    result = engine_of(FunctionTools(echo=echo)).execute(sequence(3), {"input": {"n": 5}})
    assert (result.status, result.error) == ("completed", None)
    v0 = {"value": 0, "before": 5}
    v1 = {"value": 1, "before": v0}
    assert result.output == {"v0": v0, "v1": v1, "v2": {"value": 2, "before": v1}}
    assert [status for _, status, _, _ in story(result)] == ["completed"] * 3


def test_retries_follow_the_steps_settings(engine_of: Any) -> None:
    """Two failures, three attempts."""
    tools = FunctionTools(echo=fails(2))
    result = engine_of(tools).execute(sequence(1, retry=QUICK), {"input": {"n": 1}})
    assert result.status == "completed"
    assert (tools.calls["echo"], result.steps[0].retry_count) == (3, 2)
    assert set(tools.keys.values()) == {3}  # one idempotency key for all attempts


def test_config_max_retries_holds_for_steps_without_their_own(engine_of: Any) -> None:
    """As the original applies it; the delay is the default backoff's, cut short by the tool's number."""
    tools = FunctionTools(echo=fails(1))
    result = engine_of(tools).execute(sequence(1, config={"maxRetries": 1}), {"input": {"n": 1}})
    assert (result.status, tools.calls["echo"]) == ("completed", 2)


def test_a_step_out_of_retries_fails_the_execution(engine_of: Any) -> None:
    """Later steps are not reached."""
    result = engine_of(FunctionTools(echo=fails(9))).execute(sequence(2, retry=QUICK), {"input": {"n": 1}})
    assert (result.status, result.error) == ("failed", "step step_0: not yet")
    assert story(result) == [("step_0", "failed", None, 2), ("step_1", "pending", None, 0)]


def test_continue_on_error_reaches_the_end(engine_of: Any) -> None:
    """The failed step's variable is null for the next one."""
    tools = FunctionTools(echo=fails(1))
    result = engine_of(tools).execute(sequence(2, config={"continueOnError": True}), {"input": {"n": 1}})
    assert result.status == "completed"
    assert result.output == {"v1": {"value": 1, "before": None}}


def test_a_false_condition_skips(engine_of: Any) -> None:
    """Nothing is called, and the variable is not among the output."""
    tools = FunctionTools(echo=echo)
    workflow = {
        "steps": [
            {"name": "a", "tool": "test.echo", "params": {}, "assign": "a", "if": "${input.wanted}"},
            {"name": "b", "tool": "test.echo", "params": {"a": "${a}"}, "assign": "b", "condition": "${input.n} > 1"},
        ]
    }
    result = engine_of(tools).execute(workflow, {"input": {"wanted": False, "n": 2}})
    assert story(result) == [("a", "skipped", None, 0), ("b", "completed", {"a": None}, 0)]
    assert result.output == {"b": {"a": None}}


def test_context_and_preset_variables_are_read(engine_of: Any) -> None:
    """`${repo.owner}` comes from the context, `${known}` from its variables: the original's way to go on by hand."""
    workflow = {"steps": [{"name": "a", "tool": "test.echo", "params": {"o": "${repo.owner}", "k": "${known}"}}]}
    context = {"input": {}, "repo": {"owner": "ada"}, "variables": {"known": [1]}}
    result = engine_of(FunctionTools(echo=echo)).execute(workflow, context)
    assert result.steps[0].output == {"o": "ada", "k": [1]}
    assert result.output == {"known": [1]}


def test_a_missing_path_fails_the_step_and_is_not_retried(engine_of: Any) -> None:
    """With a message that names it."""
    tools = FunctionTools(echo=echo)
    workflow = {"steps": [{"name": "a", "tool": "test.echo", "params": {"x": "${input.absent}"}, "retry": QUICK}]}
    result = engine_of(tools).execute(workflow, {"input": {"present": 1}})
    assert result.status == "failed"
    assert "absent" in result.error
    assert tools.calls["echo"] == 0


def test_a_result_that_cannot_be_stored_fails_the_step(engine_of: Any) -> None:
    """NUL characters: said, not swallowed."""
    result = engine_of(FunctionTools(echo=lambda **_: {"text": "a\0b"})).execute(sequence(1), {"input": {"n": 1}})
    assert result.status == "failed"
    assert "NUL" in result.error


def test_without_a_database_it_says_so(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """In the original's words, and it runs all the same."""
    nowhere = settings.model_copy(update={"database_url": "postgresql://127.0.0.1:1/none"})
    with caplog.at_level(logging.WARNING):
        result = WorkflowEngine(FunctionTools(echo=echo), settings=nowhere).execute(sequence(1), {"input": {"n": 1}})
    assert "Database not available, running without persistence" in caplog.messages
    assert (result.status, result.persisted) == ("completed", False)


def test_persistence_switched_off_asks_for_no_database(settings: Settings, pool: Pool) -> None:
    """No row is written."""
    engine = WorkflowEngine(FunctionTools(echo=echo), persistence=False, pool=pool, settings=settings)
    assert engine.execute(sequence(1), {"input": {"n": 1}}).persisted is False
    assert get_recent_executions(pool) == []


def test_a_persisted_execution_holds_the_invariants(settings: Settings, pool: Pool) -> None:
    """And leaves no lease behind."""
    engine = WorkflowEngine(FunctionTools(echo=fails(1)), pool=pool, settings=settings)
    result = engine.execute(sequence(2, retry=QUICK), {"input": {"n": 1}}, triggered_by="ada")
    assert_invariants_at_rest(pool, result.execution_id)
    execution = get_execution(pool, result.execution_id)
    assert execution is not None
    assert execution["triggered_by"] == "ada"
    assert run(pool, "server_facts")[0]["workers_alive"] == 0


def test_an_execution_whose_process_died_is_found_by_the_reaper(settings: Settings, pool: Pool) -> None:
    """The engine's claim without its lease is charged and dispatched like any other."""
    dead = UUID(int=7)
    submitted = Submitter(pool, None).submit(sequence(1), [Request(input={"n": 1})])[0]
    assert claim_step(pool, submitted.ready[0], dead, 1000) is not None
    (lost,) = run(pool, "reap_steps", {"silence": 30, "max_lost": 3, "limit": 10})
    assert (lost["reason"], lost["step_status"]) == ("its worker is gone", "pending")
    assert [row["step_id"] for row in run(pool, "dispatch_steps", {"limit": 10})] == [lost["step_id"]]


def test_retry_on_says_which_failures_are_worth_another_attempt(engine_of: Any) -> None:
    """Without it the tool's own failures are; with it those that it names, and calls that did not run in any case."""
    tools = FunctionTools(echo=fails(1, "invalid_response"))
    assert engine_of(tools).execute(sequence(1, retry=QUICK), {"input": {"n": 1}}).status == "failed"
    tools = FunctionTools(echo=fails(1, "invalid_response"))
    chosen = sequence(1, retry=QUICK, retryOn=["invalid_response"])
    assert engine_of(tools).execute(chosen, {"input": {"n": 1}}).status == "completed"
    tools = FunctionTools(echo=fails(1, "tool_error"))
    assert engine_of(tools).execute(chosen, {"input": {"n": 1}}).status == "failed"


def test_an_unsafe_call_with_an_unknown_outcome_is_not_repeated(engine_of: Any) -> None:
    """Retries left or not; the step's word counts more than the catalogue's."""

    def hangs(**arguments: Any) -> Failed:
        return Failed("timeout", "no answer within 1 s", "unknown")

    tools = FunctionTools(echo=hangs)
    tools.repeatable = False
    result = engine_of(tools).execute(sequence(1, retry=QUICK), {"input": {"n": 1}})
    assert result.status == "failed"
    assert "may have run" in result.error
    assert tools.calls["echo"] == 1
    tools = FunctionTools(echo=hangs)
    tools.repeatable = False
    engine_of(tools).execute(sequence(1, retry=QUICK, idempotent=True), {"input": {"n": 1}})
    assert tools.calls["echo"] == 3


def test_the_idempotency_key_may_be_an_argument(engine_of: Any) -> None:
    """For servers that take it as one; it is recorded with the params."""
    tools = FunctionTools(echo=echo)
    result = engine_of(tools).execute(sequence(1, idempotencyArgument="request_id"), {"input": {"n": 1}})
    assert result.steps[0].output["request_id"] == f"{result.execution_id}:step_0"
    assert set(tools.keys) == {f"{result.execution_id}:step_0"}


def test_retry_after_is_waited_out(settings: Settings, pool: Pool) -> None:
    """The server's wish, where it is longer than the step's own delay; never longer than five minutes."""
    from orchestrator.advance import Attempt, Recorder

    for wish, expected in ((60.0, 60), (86_400.0, 300)):
        submitted = Submitter(pool, None).submit(sequence(1, retry=QUICK), [Request(input={"n": 1})])[0]
        claim = claim_step(pool, submitted.ready[0], UUID(int=1), 1000)
        assert claim is not None
        failed = Failed("rate_limited", "HTTP 429", "not_executed", retry_after=wish)
        step = plan(sequence(1, retry=QUICK)).steps[0]
        transition = Recorder(pool, None, UUID(int=1), 1000).advance(Attempt(claim, step, {}, failed))
        assert transition.step_status == "pending"
        (row,) = run(pool, "step_due", {"execution_id": submitted.execution_id})
        assert round(row["due_in"]) == expected


@pytest.mark.parametrize("limited", [True, False])
def test_what_a_run_cost_is_the_same_story(engine_of: Any, limited: bool) -> None:
    """Of every attempt, failed ones too; calls without a price are counted where anybody wants to know."""
    tools = FunctionTools(echo=fails(1), free=echo)
    tools.priced = {"test": {"echo": Price(Decimal("0.03"))}}
    steps = [
        {"name": "paid", "tool": "test.echo", "params": {}, "retry": QUICK},
        {"name": "unpriced", "tool": "test.free", "params": {}},
        {"name": "elsewhere", "tool": "other.free", "params": {}},
        {"name": "skipped", "tool": "test.echo", "params": {}, "if": "false"},
    ]
    config: dict[str, Any] = {"maxCost": "1"} if limited else {}
    result = engine_of(tools).execute({"name": "bill", "steps": steps, "config": config}, {"input": {}})
    assert (result.status, result.cost_nanos, result.unpriced_calls) == ("completed", 60_000_000, 2)
    told = [(step.cost_nanos, step.unpriced_calls) for step in result.steps]
    assert told == [(60_000_000, None), (None, 1), (None, 1 if limited else None), (None, None)]


def test_a_run_without_prices_tells_of_no_cost(engine_of: Any) -> None:
    """Neither do its steps; its calls are unpriced ones."""
    result = engine_of(FunctionTools(echo=echo)).execute(sequence(2), {"input": {"n": 5}})
    assert (result.cost_nanos, result.unpriced_calls) == (None, 2)
    assert [(step.cost_nanos, step.unpriced_calls) for step in result.steps] == [(None, None)] * 2
