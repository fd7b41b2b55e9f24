"""The transitions of schema.sql, one test per promise."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from orchestrator.submit import Request, Submitter
from persistence.executions import get_execution, get_execution_steps
from persistence.pool import Pool, run
from persistence.statements import statement
from persistence.transitions import (
    Claim,
    ReadyStep,
    Transition,
    charge_step,
    claim_step,
    release_step,
)
from tests.steps import complete, skip
from tests.workflows import assert_invariants_at_rest, sequence

WORKER = uuid4()


def start(pool: Pool, count: int = 3, **options: Any) -> tuple[UUID, ReadyStep]:
    submitted = Submitter(pool, None).submit(sequence(count, **options), [Request(input={"n": 7})])[0]
    renew(pool, WORKER)
    return submitted.execution_id, submitted.ready[0]


def renew(pool: Pool, worker: UUID) -> list[UUID]:
    parameters = {"worker_id": worker, "role": "worker", "hostname": "here", "pid": 1, "threads": 1}
    stopped: list[UUID] = run(pool, "renew_lease", parameters)[0]["stopped"]
    return stopped


def take(pool: Pool, step: ReadyStep, worker: UUID = WORKER) -> Claim:
    claim = claim_step(pool, step, worker, 1000)
    assert claim is not None
    return claim


def finish(pool: Pool, claim: Claim) -> Transition:
    return complete(pool, claim, json.dumps({"index": claim.step_index}), "{}")


def charge(pool: Pool, claim: Claim, *, retryable: bool = True, delay_ms: int = 0) -> Transition:
    return charge_step(
        pool,
        claim.step_id,
        claim.attempt,
        kind="tool_error",
        error="it broke",
        retryable=retryable,
        delay_ms=delay_ms,
        params="{}",
    )


def reap(pool: Pool, silence: float = 30) -> list[dict[str, Any]]:
    return run(pool, "reap_steps", {"silence": silence, "max_lost": 3, "limit": 100})


def step_row(pool: Pool, execution_id: UUID, index: int = 0) -> dict[str, Any]:
    return get_execution_steps(pool, execution_id)[index]


def test_a_sequence_hands_each_step_to_the_next_and_completes(pool: Pool) -> None:
    """Every claim sees the variables it names; the last completion writes output and context whole."""
    execution_id, ready = start(pool)
    scopes = []
    while True:
        claim = take(pool, ready)
        scopes.append(claim.scope)
        transition = finish(pool, claim)
        if not transition.ready:
            break
        (ready,) = transition.ready
    assert scopes == [{"input": {"n": 7}}, {"v0": {"index": 0}}, {"v1": {"index": 1}}]
    assert (transition.step_status, transition.execution_status) == ("completed", "completed")
    execution = get_execution(pool, execution_id)
    assert execution is not None
    assert execution["output"] == {f"v{index}": {"index": index} for index in range(3)}
    assert execution["context"] == {"input": {"n": 7}, "variables": execution["output"]}
    assert execution["completed_at"] >= execution["started_at"]
    assert_invariants_at_rest(pool, execution_id)


def test_a_reader_sees_every_variable_assigned_so_far(pool: Pool) -> None:
    """Before the end the context is composed of the rows."""
    execution_id, ready = start(pool)
    finish(pool, take(pool, ready))
    execution = get_execution(pool, execution_id)
    assert execution is not None
    assert execution["status"] == "running"
    assert execution["context"]["variables"] == {"v0": {"index": 0}}


def test_only_one_claim_of_an_attempt_succeeds(pool: Pool) -> None:
    """A doubled message finds the attempt taken."""
    _, ready = start(pool)
    take(pool, ready)
    assert claim_step(pool, ready, uuid4(), 1000) is None


def test_a_step_is_not_claimed_before_what_it_needs(pool: Pool) -> None:
    """A message that came too early changes nothing."""
    execution_id, _ = start(pool)
    second = step_row(pool, execution_id, 1)
    assert claim_step(pool, ReadyStep(second["id"], 0), WORKER, 1000) is None


@pytest.mark.parametrize("status", ["cancelled", "failed", "paused", "completed"])
def test_nothing_is_claimed_of_an_execution_that_rests(pool: Pool, status: str) -> None:
    """The execution's status is part of the guard."""
    execution_id, ready = start(pool)
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_executions SET status = %s WHERE id = %s", (status, execution_id))
    assert claim_step(pool, ready, WORKER, 1000) is None


def test_a_charged_step_waits_out_its_delay(pool: Pool) -> None:
    """Neither a claim nor the dispatcher takes it before next_run_at."""
    execution_id, ready = start(pool, retry={"maxAttempts": 2})
    claim = take(pool, ready)
    assert charge(pool, claim, delay_ms=60_000).step_status == "pending"
    again = ReadyStep(claim.step_id, claim.attempt)
    assert claim_step(pool, again, WORKER, 1000) is None
    assert run(pool, "dispatch_steps", {"limit": 10}) == []
    make_due(pool, execution_id)
    (due,) = run(pool, "dispatch_steps", {"limit": 10})
    assert (due["step_id"], due["attempt"]) == (claim.step_id, 1)
    assert take(pool, again).retries_so_far == 1


def make_due(pool: Pool, execution_id: UUID) -> None:
    """Moves the due times instead of waiting for them."""
    with pool.connection() as connection:
        connection.execute(
            "UPDATE workflow_steps SET next_run_at = now(), dispatch_after = now() "
            "WHERE execution_id = %s AND dispatch_after IS NOT NULL",
            (execution_id,),
        )


def test_an_attempt_is_charged_once(pool: Pool) -> None:
    """The middleware and the reaper use one statement; the second of them changes nothing."""
    execution_id, ready = start(pool, retry={"maxAttempts": 3})
    claim = take(pool, ready)
    assert charge(pool, claim).recorded
    assert not charge(pool, claim).recorded
    assert step_row(pool, execution_id)["retry_count"] == 1


def test_a_step_out_of_retries_fails_its_execution(pool: Pool) -> None:
    """maxAttempts counts all attempts; the last one is not a retry."""
    execution_id, ready = start(pool, retry={"maxAttempts": 2})
    claim = take(pool, ready)
    charge(pool, claim)
    transition = charge(pool, take(pool, ReadyStep(claim.step_id, 1)))
    assert (transition.step_status, transition.execution_status) == ("failed", "failed")
    execution = get_execution(pool, execution_id)
    assert execution is not None
    assert execution["error"] == "step step_0: it broke"
    step = step_row(pool, execution_id)
    assert (step["retry_count"], step["attempt"], step["error_kind"]) == (1, 2, "tool_error")
    assert [event["attempt"] for event in run(pool, "get_execution_events", {"execution_id": execution_id})] == [1, 2]


def test_a_definite_failure_is_not_retried(pool: Pool) -> None:
    """Whatever retries are left."""
    _, ready = start(pool, retry={"maxAttempts": 5})
    assert charge(pool, take(pool, ready), retryable=False).step_status == "failed"


def test_continue_on_error_goes_on_after_a_failed_step(pool: Pool) -> None:
    """The failed step's variable is null for those that read it, and absent from the output."""
    execution_id, ready = start(pool, 2, config={"continueOnError": True})
    transition = charge(pool, take(pool, ready))
    (following,) = transition.ready
    claim = take(pool, following)
    assert claim.scope == {"v0": None}
    assert finish(pool, claim).execution_status == "completed"
    execution = get_execution(pool, execution_id)
    assert execution is not None
    assert execution["output"] == {"v1": {"index": 1}}


def test_a_skipped_step_leaves_a_null_variable(pool: Pool) -> None:
    """As the definition language says."""
    execution_id, ready = start(pool, 2)
    (following,) = skip(pool, take(pool, ready)).ready
    claim = take(pool, following)
    assert claim.scope == {"v0": None}
    finish(pool, claim)
    assert [step["status"] for step in get_execution_steps(pool, execution_id)] == ["skipped", "completed"]
    assert_invariants_at_rest(pool, execution_id)


def test_a_zombie_changes_no_row(pool: Pool) -> None:
    """The attempt is the fence: what was charged to a silent worker cannot be completed by it later."""
    execution_id, ready = start(pool)
    zombie = take(pool, ready)
    silence(pool, WORKER)
    (lost,) = reap(pool)
    assert (lost["reason"], lost["step_status"]) == ("its worker fell silent", "pending")
    assert not finish(pool, zombie).recorded
    assert not charge(pool, zombie).recorded
    assert not release_step(pool, zombie, "late").recorded
    renew(pool, WORKER)
    assert finish(pool, take(pool, ReadyStep(zombie.step_id, 1))).recorded
    assert step_row(pool, execution_id)["lost_count"] == 1


def silence(pool: Pool, worker: UUID) -> None:
    with pool.connection() as connection:
        connection.execute("UPDATE workers SET heartbeat_at = now() - interval '1 minute' WHERE id = %s", (worker,))


def test_losses_do_not_use_up_the_tools_retries(pool: Pool) -> None:
    """A worker's death is not the tool's failure: with no retries configured the step still runs again."""
    execution_id, ready = start(pool)
    claim = take(pool, ready)
    silence(pool, WORKER)
    reap(pool)
    renew(pool, WORKER)
    finish(pool, take(pool, ReadyStep(claim.step_id, 1)))
    step = step_row(pool, execution_id)
    assert (step["status"], step["retry_count"], step["attempt"]) == ("completed", 1, 2)


def test_a_step_that_loses_every_worker_fails(pool: Pool) -> None:
    """At the third loss it is the step's fault, and the execution ends instead of looping."""
    execution_id, ready = start(pool)
    for _ in range(3):
        renew(pool, WORKER)
        claim = take(pool, ready)
        silence(pool, WORKER)
        reap(pool)
        ready = ReadyStep(claim.step_id, claim.attempt)
    step = step_row(pool, execution_id)
    assert (step["status"], step["error_kind"]) == ("failed", "worker_lost")
    execution = get_execution(pool, execution_id)
    assert execution is not None
    assert execution["status"] == "failed"


def test_an_attempt_past_its_deadline_is_charged(pool: Pool) -> None:
    """Also when its worker is alive: a thread of it may be dead."""
    execution_id, ready = start(pool)
    take(pool, ready)
    assert reap(pool) == []
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_steps SET deadline_at = now() - interval '1 s' WHERE status = 'running'")
    assert [row["reason"] for row in reap(pool)] == ["it ran past its deadline"]
    assert step_row(pool, execution_id)["status"] == "pending"


def test_a_released_step_is_not_charged(pool: Pool) -> None:
    """A shutdown hands back; attempt = 1 + retry_count + released_count."""
    execution_id, ready = start(pool, 1)
    released = release_step(pool, take(pool, ready), "shutdown")
    (again,) = released.ready
    finish(pool, take(pool, again))
    step = step_row(pool, execution_id)
    assert (step["retry_count"], step["released_count"], step["attempt"]) == (0, 1, 2)
    assert_invariants_at_rest(pool, execution_id)


def test_an_idempotency_key_makes_one_execution(pool: Pool) -> None:
    """Repeated submissions, in one batch or later, answer the first execution and push nothing."""
    submitter = Submitter(pool, None)
    requests = [Request(idempotency_key="order-1") for _ in range(3)]
    first, second, third = submitter.submit(sequence(2), requests)
    assert [item.created for item in (first, second, third)].count(True) == 1
    assert first.execution_id == second.execution_id == third.execution_id
    (later,) = submitter.submit(sequence(2), [Request(idempotency_key="order-1")])
    assert (later.execution_id, later.created, later.ready) == (first.execution_id, False, ())


def test_a_batch_answers_in_order(pool: Pool) -> None:
    """One statement makes many executions, each with all of its steps."""
    requests = [Request(input={"n": index}) for index in range(50)]
    submitted = Submitter(pool, None).submit(sequence(4), requests)
    assert [item.execution_id for item in submitted] == [request.id for request in requests]
    assert all(len(get_execution_steps(pool, item.execution_id)) == 4 for item in submitted)


def test_an_execution_past_its_timeout_fails(pool: Pool) -> None:
    """config.timeoutMs is a row's deadline, and the worker of a running step is told to stop it."""
    execution_id, ready = start(pool, config={"timeoutMs": 1000})
    claim = take(pool, ready)
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_executions SET deadline_at = now() - interval '1 s'")
    assert [row["execution_id"] for row in run(pool, "expire_executions", {"limit": 10})] == [execution_id]
    assert renew(pool, WORKER) == [claim.step_id]
    execution = get_execution(pool, execution_id)
    assert execution is not None
    assert "timeoutMs" in execution["error"]


def test_two_leaves_that_end_together_finish_once_and_whole(pool: Pool) -> None:
    """Successor counters carry graphs too: the execution ends with the last leaf and holds every leaf's output."""
    execution_id, ready = start(pool, 3)
    with pool.connection() as connection:  # a fork: step 0 leads to two leaves
        connection.execute("UPDATE workflow_steps SET successors = '{1,2}' WHERE step_index = 0")
        connection.execute("UPDATE workflow_steps SET successors = '{}', needs_left = 1 WHERE step_index > 0")
        connection.execute("UPDATE workflow_executions SET leaves_left = 2")
    left, right = finish(pool, take(pool, ready)).ready
    first, second = take(pool, left), take(pool, right)
    assert finish(pool, first).execution_status == "running"
    assert finish(pool, second).execution_status == "completed"
    execution = get_execution(pool, execution_id)
    assert execution is not None
    assert set(execution["output"]) == {"v0", "v1", "v2"}


def test_a_silent_worker_is_buried_only_when_it_holds_nothing(pool: Pool) -> None:
    """Its lease row explains the running steps until they are charged."""
    _, ready = start(pool)
    take(pool, ready)
    silence(pool, WORKER)
    assert run(pool, "bury_workers", {"silence": 30}) == []
    reap(pool)
    assert [row["worker_id"] for row in run(pool, "bury_workers", {"silence": 30})] == [WORKER]


def test_the_dispatcher_repeats_with_growing_distance(pool: Pool) -> None:
    """10 s after the first push, then 30, 90, 270, at most 300."""
    execution_id, _ = start(pool, 1)
    waits = []
    for _ in range(6):
        make_due(pool, execution_id)
        assert len(run(pool, "dispatch_steps", {"limit": 10})) == 1
        waits.append(round(run(pool, "next_dispatch")[0]["seconds"]))
    assert waits == [10, 30, 90, 270, 300, 300]


def test_stuck_executions_are_found(pool: Pool) -> None:
    """The invariant: what neither rests nor moves has a worker or a due time."""
    execution_id, _ = start(pool)
    assert run(pool, "stuck_executions", {"limit": 10}) == []
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_steps SET dispatch_after = NULL")
    assert [row["id"] for row in run(pool, "stuck_executions", {"limit": 10})] == [execution_id]


def catalogue(pool: Pool, *, repeatable: bool) -> None:
    """The catalogue knows test.echo."""
    run(pool, "claim_refresh", {"server": "test", "repeat_unannotated": True, "ttl": 0})
    tool = {"tool": "echo", "repeatable": repeatable, "hash": "h"}
    run(pool, "store_tools", {"server": "test", "era": "jsonrpc", "tools": json.dumps([tool])})


@pytest.mark.parametrize(
    ("repeatable", "idempotent", "status", "kind"),
    [
        (False, None, "failed", "outcome_unknown"),
        (False, True, "pending", "worker_lost"),
        (True, None, "pending", "worker_lost"),
        (True, False, "failed", "outcome_unknown"),
        (None, None, "pending", "worker_lost"),
    ],
)
def test_a_lost_call_is_repeated_only_where_that_is_safe(
    pool: Pool, repeatable: bool | None, idempotent: bool | None, status: str, kind: str
) -> None:
    """The step's own word first, then the catalogue's; a tool nobody knows is repeated, with its idempotency key."""
    if repeatable is not None:
        catalogue(pool, repeatable=repeatable)
    execution_id, ready = start(pool, 1, **({} if idempotent is None else {"idempotent": idempotent}))
    take(pool, ready)
    silence(pool, WORKER)
    reap(pool)
    step = step_row(pool, execution_id)
    assert (step["status"], step["error_kind"]) == (status, kind)
    assert ("may have run" in step["error"]) == (kind == "outcome_unknown")


def test_the_catalogue_is_refreshed_once_per_interval(pool: Pool) -> None:
    """Of a fleet that starts together one worker asks."""
    ask = {"server": "test", "repeat_unannotated": True, "ttl": 60}
    assert [run(pool, "claim_refresh", ask)[0]["claimed"] for _ in range(3)] == [True, False, False]
    assert run(pool, "claim_refresh", ask | {"ttl": 0})[0]["claimed"]


def test_the_catalogue_tells_what_changed(pool: Pool) -> None:
    """Added, changed by hash, removed; what stayed is not mentioned."""

    def store(**hashes: str) -> set[tuple[str, str]]:
        tools = [{"tool": tool, "repeatable": True, "hash": digest} for tool, digest in hashes.items()]
        rows = run(pool, "store_tools", {"server": "test", "era": "x", "tools": json.dumps(tools)})
        return {(row["tool"], row["change"]) for row in rows}

    run(pool, "claim_refresh", {"server": "test", "repeat_unannotated": True, "ttl": 0})
    assert store(a="1", b="1", c="1") == {("a", "added"), ("b", "added"), ("c", "added")}
    assert store(a="1", b="2") == {("b", "changed"), ("c", "removed")}
    assert store(a="1", b="2") == set()


# ----------------------------------------------------------------------------------------------- a claim's lost answer


class LosesItsAnswer:
    """A pool, and its connection, which breaks once, after the server has committed the statement."""

    def __init__(self, pool: Pool, query: str):
        self._pool = pool
        self._query = statement(query)
        self.lost = 0

    def getconn(self) -> LosesItsAnswer:
        return self

    def putconn(self, connection: object) -> None:
        assert connection is self

    def execute(self, query: bytes, parameters: Any = None, **options: Any) -> Any:
        with self._pool.connection() as connection:
            return connection.execute(query, parameters)

    def run_kept(self, query: bytes, parameters: Any) -> Any:
        with self._pool.connection() as connection:
            rows = connection.run_kept(query, parameters)
        if query == self._query and not self.lost:
            self.lost += 1
            raise psycopg.OperationalError("the connection broke before the answer came")
        return rows

    def check(self) -> None:
        self._pool.check()


def test_a_claim_whose_answer_was_lost_is_handed_over(pool: Pool) -> None:
    """The step is ours, and the worker learns it; nobody else is told so."""
    _, ready = start(pool)
    breaking = LosesItsAnswer(pool, "claim_steps")
    claim = claim_step(breaking, ready, WORKER, 1000)  # type: ignore[arg-type]
    assert breaking.lost == 1
    assert claim is not None
    assert (claim.attempt, claim.scope) == (1, {"input": {"n": 7}})
    other = {"step_id": ready.step_id, "attempt": 0, "worker_id": uuid4()}
    assert run(pool, "claim_again", other) == []
    assert run(pool, "claim_again", other | {"worker_id": WORKER, "attempt": 1}) == []
    assert finish(pool, claim).recorded


def test_a_claim_that_came_to_nothing_is_tried_again(pool: Pool) -> None:
    """A connection that broke before the statement ran."""
    _, ready = start(pool)
    take(pool, ready, other := uuid4())
    breaking = LosesItsAnswer(pool, "claim_steps")
    assert claim_step(breaking, ready, WORKER, 1000) is None  # type: ignore[arg-type]
    assert step_worker(pool, ready) == other


def step_worker(pool: Pool, step: ReadyStep) -> UUID:
    with pool.connection() as connection:
        row = connection.execute("SELECT worker_id FROM workflow_steps WHERE id = %s", (step.step_id,)).fetchone()
    assert row is not None
    worker: UUID = row["worker_id"]
    return worker
