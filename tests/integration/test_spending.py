"""What calls cost, on real rows: every attempt once, the sums equal to the steps, and a limit that stops before the call."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from control_center.cli import invoke
from orchestrator.advance import Attempt, Recorder
from orchestrator.outcome import Cancelled, Failed, Succeeded
from orchestrator.plan import plan
from orchestrator.price import NANOS, Cost, FieldPrice, Price, field_path, nanos_of
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.executions import get_execution_steps, require_execution
from persistence.pool import Pool, connect, open_pool, run
from persistence.settings import Settings
from persistence.transitions import (
    Claim,
    Completion,
    ReadyStep,
    Transition,
    charge_step,
    complete_steps,
    release_step,
    reserve_cost,
)
from tests.api_server import running_api
from tests.fleet import wait_until
from tests.integration.test_hand_over import begin
from tests.integration.test_transitions import WORKER, finish, reap, renew, silence, start, take
from tests.integration.test_transitions_guards import alter, fork, look
from tests.steps import NOBODY, skip
from tests.threads import Running
from tests.workflows import FunctionTools, assert_invariants_at_rest, echo, sequence
from workers.engine import WorkflowEngine

TWICE = {"maxAttempts": 3, "initialDelayMs": 100}
Sums = tuple[int, int]  # nano-dollars, unpriced calls


def completion(claim: Claim, cost: int | None, *, hand_over: bool = False) -> Completion:
    return Completion(claim, "{}", "{}", hand_over, counted=True, cost_nanos=cost)


def pay(pool: Pool, claim: Claim, cost: int | None) -> Transition:
    """Completes the step; None: at a price nobody knows."""
    return complete_steps(pool, [completion(claim, cost)], NOBODY, 1000)[0]


def pay_failure(pool: Pool, claim: Claim, cost: int | None, *, retryable: bool = True) -> Transition:
    return charge_step(
        pool,
        claim.step_id,
        claim.attempt,
        kind="tool_error",
        error="it broke",
        retryable=retryable,
        delay_ms=0,
        params="{}",
        cost_nanos=cost,
        unpriced=cost is None,
    )


def again(claim: Claim) -> ReadyStep:
    return ReadyStep(claim.step_id, claim.attempt)


def of_execution(pool: Pool, execution_id: UUID) -> tuple[int | None, int]:
    row = require_execution(pool, execution_id)
    return row["cost_nanos"], row["unpriced_calls"]


def of_days(pool: Pool, by: str = "day") -> dict[str, tuple[int, int, int]]:
    """calls, nano-dollars and unpriced calls, by name."""
    rows = run(pool, "sum_costs", {"days": 30, "by": by})
    return {row["name"]: (row["calls"], row["cost_nanos"], row["unpriced_calls"]) for row in rows}


def assert_days_are_the_steps(pool: Pool) -> None:
    """Nothing twice, nothing forgotten."""
    (steps,) = look(
        pool,
        "SELECT coalesce(sum(cost_nanos), 0) AS cost, coalesce(sum(unpriced_calls), 0) AS unpriced FROM workflow_steps",
    )
    (days,) = look(
        pool, "SELECT coalesce(sum(cost_nanos), 0) AS cost, coalesce(sum(unpriced_calls), 0) AS unpriced FROM cost_days"
    )
    assert days == steps


# ------------------------------------------------------------------------------------------------------ what is recorded


def test_what_steps_cost_is_the_executions_and_the_days(pool: Pool) -> None:
    """Composed while it runs, written when it rests; by workflow, server, tool and day."""
    execution_id, ready = start(pool, 3)
    (ready,) = pay(pool, take(pool, ready), 500).ready
    assert of_execution(pool, execution_id) == (500, 0)
    (ready,) = pay(pool, take(pool, ready), 0).ready
    assert pay(pool, take(pool, ready), 7).execution_status == "completed"
    assert of_execution(pool, execution_id) == (507, 0)
    (row,) = look(pool, "SELECT cost_nanos, unpriced_calls FROM workflow_executions")
    assert row == {"cost_nanos": 507, "unpriced_calls": 0}
    assert [step["cost_nanos"] for step in get_execution_steps(pool, execution_id)] == [500, 0, 7]
    for by, name in (("workflow", "sequence"), ("server", "test"), ("tool", "test.echo")):
        assert of_days(pool, by) == {name: (3, 507, 0)}
    (day,) = look(pool, "SELECT (now() AT TIME ZONE 'UTC')::date::text AS today")
    assert of_days(pool) == {day["today"]: (3, 507, 0)}


def test_every_attempt_is_added_once(pool: Pool) -> None:
    """Failed ones too; a record that comes twice, or late, adds nothing."""
    execution_id, ready = start(pool, 1, retry=TWICE)
    claim = take(pool, ready)
    assert pay_failure(pool, claim, 100).step_status == "pending"
    assert not pay_failure(pool, claim, 100).recorded
    assert not pay(pool, claim, 100).recorded
    claim = take(pool, again(claim))
    assert pay_failure(pool, claim, None).step_status == "pending"
    claim = take(pool, again(claim))
    assert pay(pool, claim, 30).recorded
    assert not pay(pool, claim, 30).recorded
    complete_steps(pool, [completion(claim, 30)], NOBODY, 1000, again=True)
    assert of_execution(pool, execution_id) == (130, 1)
    assert of_days(pool, "tool") == {"test.echo": (3, 130, 1)}
    assert_days_are_the_steps(pool)


def test_a_step_that_fails_for_good_cost_what_its_attempts_cost(pool: Pool) -> None:
    """The execution's row is written after the last of them."""
    execution_id, ready = start(pool, 2, retry=TWICE)
    claim = take(pool, ready)
    pay_failure(pool, claim, 5)
    assert pay_failure(pool, take(pool, again(claim)), 6, retryable=False).execution_status == "failed"
    (row,) = look(pool, "SELECT cost_nanos, unpriced_calls FROM workflow_executions")
    assert row == {"cost_nanos": 11, "unpriced_calls": 0}
    assert of_execution(pool, execution_id) == (11, 0)
    assert_days_are_the_steps(pool)


def test_a_batch_adds_up_what_it_holds(pool: Pool) -> None:
    """Priced, unpriced and uncounted ones, of two workflows, each handing over or not."""
    claims = begin(pool, 4, 2)
    others = [
        take(pool, one.ready[0])
        for one in Submitter(pool, None).submit(
            validate({"steps": [{"name": "a", "tool": "other.x.y", "params": {}}]}), [Request(), Request()]
        )
    ]
    batch = [
        completion(claims[0], 10, hand_over=True),
        completion(claims[1], None, hand_over=True),
        completion(claims[2], 20),
        Completion(claims[3], "{}", "{}"),
        completion(others[0], 3),
        completion(others[1], 4),
    ]
    assert all(one.recorded for one in complete_steps(pool, batch, WORKER, 1000))
    assert of_days(pool, "workflow") == {"sequence": (3, 30, 1), "": (2, 7, 0)}
    assert of_days(pool, "tool") == {"test.echo": (3, 30, 1), "other.x.y": (2, 7, 0)}
    assert_days_are_the_steps(pool)


def test_a_lost_attempt_is_an_unpriced_call(pool: Pool) -> None:
    """Whether it was made, nobody knows; the next one adds its own."""
    execution_id, ready = start(pool, 1)
    other, second = start(pool, 1)
    claims = [take(pool, ready), take(pool, second)]
    silence(pool, WORKER)
    assert len(reap(pool)) == 2
    assert reap(pool) == []
    renew(pool, WORKER)
    assert not pay(pool, claims[0], 100).recorded
    pay(pool, take(pool, again(claims[0])), 100)
    finish(pool, take(pool, again(claims[1])))  # of a server without prices: not counted, but shown
    assert of_execution(pool, execution_id) == (100, 1)
    assert of_execution(pool, other) == (None, 2)
    assert of_days(pool, "tool") == {"test.echo": (3, 100, 2)}
    assert_days_are_the_steps(pool)


def test_a_fault_of_ours_leaves_a_call_that_may_have_been_made(pool: Pool) -> None:
    """Counted as a lost one is."""
    execution_id, ready = start(pool, 1)
    claim = take(pool, ready)
    Recorder(pool, None, WORKER, 1000).charge_unexpected(claim.step_id, claim.attempt, "oh")
    assert of_execution(pool, execution_id) == (None, 1)
    assert_days_are_the_steps(pool)


def test_a_call_that_was_cut_short_is_counted_when_its_step_is_handed_back(pool: Pool) -> None:
    """Once, and only by the attempt that holds it; a step that no thread has begun is no call."""
    execution_id, ready = start(pool, 1)
    claim = take(pool, ready)
    (step,) = plan(sequence(1)).steps
    recorder = Recorder(pool, None, WORKER, 1000)
    for _ in range(2):
        recorder.advance(Attempt(claim, step, {}, Cancelled("stop"), cost=Cost(None, "cut short")))
    claim = take(pool, again(claim))
    release_step(pool, claim, "not begun")
    assert of_execution(pool, execution_id) == (None, 1)
    assert of_days(pool, "tool") == {"test.echo": (1, 0, 1)}
    pay(pool, take(pool, again(claim)), 9)
    assert of_execution(pool, execution_id) == (9, 1)


def test_an_output_that_cannot_be_stored_was_paid_for(pool: Pool) -> None:
    """The attempt fails in the database, and its cost goes with the failure."""
    execution_id, ready = start(pool, 1)
    (step,) = plan(sequence(1)).steps
    output = "1" * 140_000  # a number of more digits than jsonb holds
    attempt = Attempt(take(pool, ready), step, {}, Succeeded(1), output, cost=Cost(12))
    assert Recorder(pool, None, WORKER, 1000).advance(attempt).step_status == "failed"
    assert of_execution(pool, execution_id) == (12, 0)
    assert_days_are_the_steps(pool)


def test_steps_of_servers_without_prices_write_nothing_and_are_shown(pool: Pool) -> None:
    """Completed ones are calls that nobody knows the price of; skipped ones are none, nor are builtin's."""
    execution_id, ready = start(pool, 3)
    alter(pool, "UPDATE workflow_steps SET tool = 'builtin.echo' WHERE step_index = 2")
    (ready,) = finish(pool, take(pool, ready)).ready
    (ready,) = skip(pool, take(pool, ready)).ready
    finish(pool, take(pool, ready))
    assert of_execution(pool, execution_id) == (None, 1)
    assert look(pool, "SELECT FROM cost_days") == look(pool, "SELECT FROM execution_budgets") == []
    assert look(pool, "SELECT FROM workflow_steps WHERE cost_nanos IS NOT NULL OR unpriced_calls IS NOT NULL") == []


def test_what_a_person_gave_or_another_execution_has_paid_for_is_no_call(pool: Pool) -> None:
    """Neither costs, nor is it a call without a price; a step that ran twice was paid twice."""
    execution_id, ready = start(pool, 2)
    (ready,) = pay(pool, take(pool, ready), 5).ready
    finish(pool, take(pool, ready))
    assert of_execution(pool, execution_id) == (5, 1)
    alter(pool, "UPDATE workflow_steps SET override = '{\"output\": 1}' WHERE step_index = 1")
    alter(pool, "UPDATE workflow_executions SET unpriced_calls = NULL")
    assert of_execution(pool, execution_id) == (5, 0)
    alter(pool, "UPDATE workflow_steps SET override = NULL, reused_from = id WHERE step_index = 1")
    assert of_execution(pool, execution_id) == (5, 0)
    parameters = {
        "action": "retry",
        "steps": [1],
        "overrides": "{}",
        "expected": "completed",
        "actor": "a",
        "reason": None,
    }
    (rerun,) = run(pool, "rerun_steps", {"execution_id": execution_id, **parameters})
    assert rerun["done"]
    pay(pool, take(pool, ReadyStep(rerun["ready_steps"][0], 1)), 7)
    assert of_execution(pool, execution_id) == (12, 0)
    assert_days_are_the_steps(pool)


def test_a_record_that_comes_after_the_end_is_added_all_the_same(pool: Pool) -> None:
    """The execution ended while a step ran: its sum is composed of the steps from then on."""
    execution_id, left, right = fork(pool)
    slow = take(pool, left)
    assert pay_failure(pool, take(pool, right), 5, retryable=False).execution_status == "failed"
    assert of_execution(pool, execution_id) == (5, 1)
    (row,) = look(pool, "SELECT unpriced_calls FROM workflow_executions")
    assert row == {"unpriced_calls": None}
    assert pay(pool, slow, 10).recorded
    assert of_execution(pool, execution_id) == (15, 1)
    assert_days_are_the_steps(pool)


def share_a_slot(pool: Pool) -> None:
    """Everybody meets in one row per workflow, server and tool."""
    with pool.connection() as connection:
        (source,) = connection.execute("SELECT pg_get_functiondef('note_costs'::regproc) AS text").fetchall()
        assert "pg_backend_pid() % 16" in source["text"]
        connection.execute(source["text"].replace("pg_backend_pid() % 16", "0").encode())


def test_threads_that_record_at_once_wait_for_nobody_crosswise(dsn: str) -> None:
    """Batches over the same workflows, in orders of their own and in one slot, failures and losses among them."""
    with open_pool(dsn, max_size=8) as pool:
        definitions = [
            validate({"name": f"w{n}", "steps": [{"name": "a", "tool": f"s{n % 3}.t", "params": {}}]}) for n in range(5)
        ]
        share_a_slot(pool)
        renew(pool, WORKER)
        rounds, size = 15, 10

        def claims(offset: int) -> list[Claim]:
            found = []
            for number in range(size):
                (one,) = Submitter(pool, None).submit(definitions[(number * 2 + offset) % 5], [Request()])
                found.append(take(pool, one.ready[0]))
            return found

        def record(offset: int) -> None:
            for _ in range(rounds):
                taken = claims(offset)
                pay_failure(pool, taken[0], 1, retryable=False)
                complete_steps(pool, [completion(one, 1) for one in taken[1:]], WORKER, 1000)

        def lose() -> None:
            for _ in range(rounds):
                taken = claims(1)
                ids = [claim.step_id for claim in taken]
                alter(pool, "UPDATE workflow_steps SET deadline_at = now() - interval '1 s' WHERE id = ANY (%s)", ids)
                reap(pool)

        threads = [Running(record, offset) for offset in range(4)] + [Running(lose)]
        for thread in threads:
            thread.result()
        sums = of_days(pool, "server")
        assert sum(cost for _, cost, _ in sums.values()) == 4 * rounds * size
        assert sum(unpriced for _, _, unpriced in sums.values()) == rounds * size
        assert_days_are_the_steps(pool)


def test_two_transactions_take_the_days_in_one_order(dsn: str, pool: Pool) -> None:
    """Whatever order their records are in: who waits for the first day has not taken the second."""
    share_a_slot(pool)
    claims = []
    for name in ("a", "b", "b", "a"):
        flow = validate({"name": name, "steps": [{"name": "x", "tool": "s.t", "params": {}}]})
        (one,) = Submitter(pool, None).submit(flow, [Request()])
        claims.append(take(pool, one.ready[0]))
    with connect(dsn) as holder, holder.transaction():
        holder.execute("SELECT note_costs(%s, '{1}')", ([claims[0].step_id],))
        waiting = Running(complete_steps, pool, [completion(claim, 1) for claim in claims[2:]], WORKER, 1000)
        wait_for_a_lock(dsn)
        holder.execute("SELECT note_costs(%s, '{1}')", ([claims[1].step_id],))
    assert all(one.recorded for one in waiting.result())


def wait_for_a_lock(dsn: str) -> None:
    """Until somebody of this database waits for one."""
    waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(dsn, autocommit=True) as watcher:
        wait_until(lambda: watcher.execute(waits).fetchall(), 30, "somebody waits")


# ------------------------------------------------------------------------------------------------------ config.maxCost


def limited(pool: Pool, steps: int, most: str, **options: Any) -> tuple[UUID, ReadyStep]:
    return start(pool, steps, config={"maxCost": most}, **options)


def reserve(pool: Pool, claim: Claim, nanos: int) -> tuple[bool, int | None]:
    row = reserve_cost(pool, claim, nanos)
    return row["admitted"], row["spent_nanos"]


def test_a_claim_tells_the_limit_of_its_execution(pool: Pool) -> None:
    """Of a first step, of a successor, and when it is asked again; without config.maxCost there is none."""
    _, ready = limited(pool, 2, "0.25")
    claim = take(pool, ready)
    assert claim.max_cost_nanos == nanos_of("0.25")
    (asked,) = run(pool, "claim_again", {"step_id": ready.step_id, "attempt": 0, "worker_id": WORKER})
    assert asked["max_cost_nanos"] == nanos_of("0.25")
    (transition,) = complete_steps(pool, [completion(claim, 1, hand_over=True)], WORKER, 1000)
    assert transition.successor is not None
    assert transition.successor.max_cost_nanos == nanos_of("0.25")
    (transition,) = complete_steps(pool, [completion(claim, 1, hand_over=True)], WORKER, 1000, again=True)
    assert transition.successor is not None
    assert transition.successor.max_cost_nanos == nanos_of("0.25")
    assert take(pool, start(pool)[1]).max_cost_nanos is None


@pytest.mark.parametrize("most", [0.000000001, "0.000000001", 1, "999999", 0.1])
def test_the_limit_is_stored_to_the_nano(pool: Pool, most: Any) -> None:
    execution_id, _ = start(pool, 1, config={"maxCost": most})
    assert require_execution(pool, execution_id)["max_cost_nanos"] == nanos_of(most)


def test_a_call_is_admitted_while_it_fits(pool: Pool) -> None:
    """Beside what was spent, retries included; at the limit nothing is."""
    _, ready = limited(pool, 2, "0.00000001", retry=TWICE)  # ten nano-dollars
    claim = take(pool, ready)
    assert reserve(pool, claim, 11) == (False, 0)
    assert reserve(pool, claim, 10) == (True, 0)
    pay_failure(pool, claim, 4)
    claim = take(pool, again(claim))
    assert reserve(pool, claim, 7) == (False, 4)
    assert reserve(pool, claim, 6) == (True, 4)
    (ready,) = pay(pool, claim, 6).ready
    assert reserve(pool, take(pool, ready), 0) == (False, 10)


def test_what_running_steps_have_set_aside_is_taken(pool: Pool) -> None:
    """Two branches cannot both see the room for one; what ended, or was lost, sets nothing aside."""
    execution_id, left, right = fork(pool)
    alter(pool, "UPDATE workflow_executions SET max_cost_nanos = 10 WHERE id = %s", execution_id)
    first, second = take(pool, left), take(pool, right)
    assert reserve(pool, first, 6) == (True, 0)
    assert reserve(pool, first, 6) == (True, 0)  # asked again
    assert reserve(pool, second, 6) == (False, 6)
    assert reserve(pool, second, 4) == (True, 6)
    pay_failure(pool, first, 1)
    assert reserve(pool, second, 9) == (True, 1)


def test_an_attempt_that_is_no_longer_ours_is_not_admitted(pool: Pool) -> None:
    """Its step was charged to a silent worker: the call would be one too many."""
    _, ready = limited(pool, 1, "1")
    claim = take(pool, ready)
    silence(pool, WORKER)
    reap(pool)
    assert reserve(pool, claim, 1) == (False, None)


def test_two_that_ask_at_once_are_admitted_one_after_the_other(dsn: str, pool: Pool) -> None:
    """The second waits for the first, and then sees what it has set aside."""
    execution_id, left, right = fork(pool)
    alter(pool, "UPDATE workflow_executions SET max_cost_nanos = 10 WHERE id = %s", execution_id)
    first, second = take(pool, left), take(pool, right)
    assert reserve(pool, second, 0) == (True, 0)  # the row is there
    with connect(dsn) as holder, holder.transaction():
        holder.execute("SELECT FROM execution_budgets FOR NO KEY UPDATE")  # as far as the first one may have come
        waiting = Running(reserve, pool, second, 6)
        wait_for_a_lock(dsn)
        (row,) = holder.execute("SELECT admitted FROM reserve_cost(%s, 1, 6)", (first.step_id,)).fetchall()
        assert row["admitted"]
    assert waiting.result() == (False, 6)


@pytest.mark.parametrize("persisted", [True, False])
def test_a_sequence_stops_before_the_call_that_would_cross_its_limit(
    pool: Pool, settings: Settings, persisted: bool
) -> None:
    """The step fails as cost_limit, at once and whatever its retries; nothing is called."""
    tools = FunctionTools(echo=echo)
    tools.priced = {"test": {"echo": Price(Decimal("0.03"))}}
    engine = WorkflowEngine(tools, persistence=persisted, pool=pool if persisted else None, settings=settings)
    flow = sequence(5, config={"maxCost": "0.10"}, retry=TWICE)
    result = engine.execute(flow, {"input": {"n": 1}})
    assert (result.status, tools.calls["echo"]) == ("failed", 3)
    told = "0.09 of 0.10 USD (config.maxCost) are spent, and this call costs 0.03 USD or more: the tool was not called"
    assert result.error == f"step step_3: {told}"
    assert result.steps[3].retry_count == 0
    if persisted:
        assert of_execution(pool, result.execution_id) == (nanos_of("0.09"), 0)
        assert get_execution_steps(pool, result.execution_id)[3]["error_kind"] == "cost_limit"
        assert of_days(pool, "workflow") == {"sequence": (3, nanos_of("0.09"), 0)}
        assert_days_are_the_steps(pool)


def test_what_only_the_answer_tells_stops_the_next_call(pool: Pool, settings: Settings) -> None:
    """It is not known before; free tools go on, and unpriced calls are counted there as well."""
    steps = [
        {"name": "one", "tool": "test.echo", "params": {"n": 700}},
        {"name": "free", "tool": "builtin.echo", "params": {}},
        {"name": "two", "tool": "bare.echo", "params": {"n": 1}},
        {"name": "three", "tool": "test.echo", "params": {"n": 500}},
        {"name": "four", "tool": "bare.echo", "params": {"n": 1}},
        {"name": "five", "tool": "builtin.echo", "params": {}},
    ]
    tools = FunctionTools(echo=echo)
    path = field_path("n")
    assert path is not None
    tools.priced = {"test": {"echo": Price(fields=(FieldPrice("n", path, Decimal("0.001")),))}}
    flow = validate({"name": "f", "steps": steps, "config": {"maxCost": 1, "continueOnError": True}})
    result = WorkflowEngine(tools, pool=pool, settings=settings).execute(flow, {})
    assert [step.status for step in result.steps] == ["completed"] * 4 + ["failed", "completed"]
    assert of_execution(pool, result.execution_id) == (nanos_of("1.2"), 1)
    assert of_days(pool, "tool") == {"test.echo": (2, nanos_of("1.2"), 0), "bare.echo": (1, 0, 1)}
    assert_days_are_the_steps(pool)


def test_failed_calls_cost_and_refused_ones_do_not(pool: Pool, settings: Settings) -> None:
    """The engine's own road: a tool that fails twice was paid three times."""
    answers = iter(
        [Failed("tool_error", "no"), Failed("rate_limited", "later", "not_executed"), Failed("timeout", "?", "unknown")]
    )
    tools = FunctionTools(echo=lambda **_: next(answers, {"ok": True}))
    tools.priced = {"test": {"*": Price(Decimal("0.5"))}}
    flow = sequence(1, retry={"maxAttempts": 4, "initialDelayMs": 100, "backoff": "fixed"})
    result = WorkflowEngine(tools, pool=pool, settings=settings).execute(flow, {"input": {"n": 1}})
    assert (result.status, tools.calls["echo"]) == ("completed", 4)
    assert of_execution(pool, result.execution_id) == (nanos_of("1.5"), 0)
    assert of_days(pool, "tool") == {"test.echo": (3, nanos_of("1.5"), 0)}
    assert_invariants_at_rest(pool, result.execution_id)


# ------------------------------------------------------------------------------------------------------ what is shown


def test_costs_are_shown_alike_by_commands_and_api(
    pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the database and over HTTP, byte for byte; the API's answer has the same sums."""
    execution_id, ready = limited(pool, 2, "2.5")
    (ready,) = pay(pool, take(pool, ready), NANOS + 2_100_000).ready
    pay(pool, take(pool, ready), None)
    running, _ = start(pool, 1)
    commands = [["show", str(execution_id)], ["show", str(execution_id), "--json"], ["cost"]]
    commands += [["cost", "--json", "--by", kind, "--days", "3"] for kind in ("workflow", "server", "tool", "day")]
    with running_api(settings) as url:
        said = []
        near = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url}
        for way in (near, {"AFU9_URL": url}):
            for name in ("AFU9_URL", "DATABASE_URL", "REDIS_URL"):
                monkeypatch.setenv(name, way.get(name, ""))
            for command in commands:
                capsys.readouterr()
                assert invoke(command) == 0
                said.append(tuple(capsys.readouterr()))
        with httpx.Client(base_url=url) as api:
            costs = api.get("/api/workflow/cost", params={"window": "3d", "by": "tool"}).json()
            shown = api.get(f"/api/workflow/execution/{execution_id}").json()
            listed = api.get("/api/workflow/executions").json()["executions"]
            refused = api.get("/api/workflow/cost", params={"window": "1h"})
    assert said[: len(commands)] == said[len(commands) :]
    assert "cost: 1.0021 USD of at most 2.50 USD, 1 unpriced call" in said[0][0].splitlines()
    assert said[2] == ("sequence\t1.0021\t2\t1\n", "1.0021 USD, 2 calls, 1 unpriced\n")
    sums = {"costUsd": "1.0021", "calls": 2, "unpricedCalls": 1}
    assert costs == {"days": 3, "by": "tool", "costs": [{"name": "test.echo"} | sums], "total": sums}
    money = ("costUsd", "unpricedCalls", "maxCostUsd")
    assert [shown["execution"][key] for key in money] == ["1.0021", 1, "2.50"]
    assert [(step["costUsd"], step["unpricedCalls"]) for step in shown["steps"]] == [("1.0021", None), (None, 1)]
    assert {row["id"]: (row["costUsd"], row["unpricedCalls"]) for row in listed} == {
        str(execution_id): ("1.0021", 1),
        str(running): (None, None),
    }
    assert refused.status_code == 422


def test_sums_outlive_the_executions(pool: Pool) -> None:
    """And days that are long past are not asked for."""
    execution_id, ready = limited(pool, 1, "1")
    claim = take(pool, ready)
    reserve(pool, claim, 1)
    pay(pool, claim, 5)
    alter(pool, "DELETE FROM workflow_executions WHERE id = %s", execution_id)
    assert look(pool, "SELECT FROM execution_budgets") == []
    assert of_days(pool, "workflow") == {"sequence": (1, 5, 0)}
    alter(pool, "UPDATE cost_days SET day = day - 30")
    assert of_days(pool, "workflow") == {}
