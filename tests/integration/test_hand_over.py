"""A worker that goes on with a sequence: one transaction completes a step and claims the next one, for many executions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.advance import Attempt, Recorder
from orchestrator.outcome import Skipped, Succeeded
from orchestrator.plan import plan
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.errors import InvalidInput
from persistence.executions import get_execution, get_execution_steps
from persistence.pool import Pool, connect, open_pool, run
from persistence.transitions import (
    Claim,
    Completion,
    ReadyStep,
    Transition,
    claim_steps,
    complete_step,
    complete_steps,
    release_step,
)
from tests.fleet import wait_until
from tests.integration.test_transitions import (
    WORKER,
    LosesItsAnswer,
    charge,
    make_due,
    reap,
    renew,
    silence,
    start,
    step_row,
    take,
)
from tests.integration.test_transitions_guards import alter, look, rest, status_of
from tests.workflows import assert_invariants_at_rest, sequence

REFUSED = "1" * 140_000  # a number of more digits than jsonb holds


def wanted(claim: Claim, output: str | None = "{}") -> Completion:
    """An end whose worker wants the successor."""
    return Completion(claim, output, None if output is None else "{}", hand_over=True)


def go_on(pool: Pool, claim: Claim, worker: UUID = WORKER, *, again: bool = False) -> Transition:
    return complete_steps(pool, [wanted(claim)], worker, 1000, again=again)[0]


def begin(pool: Pool, executions: int, steps: int = 3, **options: Any) -> list[Claim]:
    """Claims of the first steps of so many."""
    requests = [Request(input={"n": number}) for number in range(executions)]
    submitted = Submitter(pool, None).submit(sequence(steps, **options), requests)
    renew(pool, WORKER)
    return [take(pool, one.ready[0]) for one in submitted]


def whole_row(pool: Pool, execution_id: UUID, index: int) -> dict[str, Any]:
    (row,) = look(pool, "SELECT * FROM workflow_steps WHERE execution_id = %s AND step_index = %s", execution_id, index)
    return row


def statuses(pool: Pool, execution_id: UUID) -> list[str]:
    return [step["status"] for step in get_execution_steps(pool, execution_id)]


# ------------------------------------------------------------------------------------------------------ the successor


def test_the_successor_is_claimed_as_a_message_would_claim_it(pool: Pool) -> None:
    """The same values, numbers and row; between the two it is nobody's, and no message of it is due."""
    steps = [
        {"name": "a", "tool": "t.x", "params": {"n": "${input.n}"}, "assign": "a"},
        {"name": "b", "tool": "t.x", "params": {"who": "${repo.owner}", "a": "${a}", "k": "${known}"}, "assign": "b"},
        {"name": "c", "tool": "t.x", "params": {"a": "${a}", "b": "${b}"}, "timeoutMs": 5000},
    ]
    context = {"repo": {"owner": "ada"}, "variables": {"known": [1]}}
    requests = [Request(input={"n": 7}, context=context) for _ in range(2)]
    pair = Submitter(pool, None).submit(validate({"steps": steps}), requests)
    handed, claimed = (take(pool, one.ready[0]) for one in pair)
    for index in (1, 2):
        transition = go_on(pool, handed)
        assert transition.successor is not None
        assert (transition.ready, transition.execution_status) == ((), "running")
        handed = transition.successor
        (ready,) = complete_steps(pool, [Completion(claimed, "{}", "{}")], WORKER, 1000)[0].ready
        claimed = take(pool, ready)
        assert told(handed) == told(claimed)
        assert kept(pool, handed) == kept(pool, claimed)
        assert handed.step_index == index
    assert run(pool, "next_dispatch")[0]["seconds"] is None
    assert handed.scope == {"a": {}, "b": {}}


def told(claim: Claim) -> tuple[object, ...]:
    return claim.attempt, claim.step_index, claim.definition_hash, claim.scope, claim.retries_so_far


def kept(pool: Pool, claim: Claim) -> dict[str, Any]:
    """What the claim left in the row; the times as distances."""
    row = whole_row(pool, claim.execution_id, claim.step_index)
    assert row["id"] == claim.step_id
    names = ("status", "attempt", "worker_id", "needs_left", "dispatch_after", "retry_count", "released_count")
    since = {name: (row[name] - row["claimed_at"]).total_seconds() for name in ("deadline_at", "started_at")}
    return {name: row[name] for name in names} | since | {"due": row["next_run_at"] <= row["claimed_at"]}


def test_a_skipped_step_hands_over_too(pool: Pool) -> None:
    """Its variable is null."""
    (claim,) = begin(pool, 1)
    (transition,) = complete_steps(pool, [wanted(claim, None)], WORKER, 1000)
    assert transition.step_status == "skipped"
    assert transition.successor is not None
    assert (transition.successor.attempt, transition.successor.scope) == (1, {"v0": None})


def test_a_claim_that_was_handed_over_is_under_its_workers_lease(pool: Pool) -> None:
    """If the worker falls silent before it begins the step, the step is charged and runs elsewhere."""
    (claim,) = begin(pool, 1)
    successor = go_on(pool, claim).successor
    assert successor is not None
    silence(pool, WORKER)
    (lost,) = reap(pool)
    assert (lost["step_id"], lost["step_status"], lost["ready_attempts"]) == (successor.step_id, "pending", [1])
    assert not go_on(pool, successor).recorded


def test_what_was_released_and_charged_between_is_counted(pool: Pool) -> None:
    """attempt = 1 + retry_count + released_count, however a step was claimed."""
    (claim,) = begin(pool, 1, 4, retry={"maxAttempts": 2})
    for interrupt in (None, "release", "charge", None):
        if interrupt == "release":
            (again,) = release_step(pool, claim, "shutdown").ready
            claim = take(pool, again)
        elif interrupt == "charge":
            charge(pool, claim)
            make_due(pool, claim.execution_id)
            claim = take(pool, ReadyStep(claim.step_id, claim.attempt))
        transition = go_on(pool, claim)
        claim = transition.successor or claim
    assert (transition.execution_status, transition.successor) == ("completed", None)
    assert_invariants_at_rest(pool, claim.execution_id)
    assert [step["attempt"] for step in get_execution_steps(pool, claim.execution_id)] == [1, 2, 2, 1]


@pytest.mark.parametrize("status", ["paused", "cancelled", "failed"])
def test_no_step_of_an_execution_that_rests_is_handed_over(pool: Pool, status: str) -> None:
    """The result is recorded; what follows waits, in nobody's hands and without a message."""
    (claim,) = begin(pool, 1)
    rest(pool, claim.execution_id, status)
    transition = go_on(pool, claim)
    assert (transition.recorded, transition.execution_status) == (True, status)
    assert (transition.successor, transition.ready) == (None, ())
    following = whole_row(pool, claim.execution_id, 1)
    assert (following["status"], following["attempt"], following["needs_left"]) == ("pending", 0, 0)
    assert following["dispatch_after"] is None


def test_what_nobody_goes_on_with_becomes_ready(pool: Pool) -> None:
    """Without the wish, or where a step has two successors: they are for whoever comes."""
    plain, forked = begin(pool, 2)
    alter(pool, "UPDATE workflow_steps SET successors = '{1,2}' WHERE id = %s", forked.step_id)
    sql = "UPDATE workflow_steps SET successors = '{}', needs_left = 1 WHERE step_index > 0 AND execution_id = %s"
    alter(pool, sql, forked.execution_id)
    one, two = complete_steps(pool, [Completion(plain, "{}", "{}"), wanted(forked)], WORKER, 1000)
    assert (one.successor, len(one.ready)) == (None, 1)
    assert (two.successor, len(two.ready)) == (None, 2)
    assert all(claim_steps(pool, [*one.ready, *two.ready], uuid4(), 1000))


def test_a_step_that_waits_for_another_is_handed_to_the_last_of_them(pool: Pool) -> None:
    """The first one to end only counts it down."""
    execution_id, ready = start(pool, 3)
    alter(
        pool, "UPDATE workflow_steps SET successors = '{2}', needs_left = 0, next_run_at = now() WHERE step_index < 2"
    )
    alter(pool, "UPDATE workflow_steps SET needs_left = 2 WHERE step_index = 2")
    first, second = take(pool, ready), take(pool, ReadyStep(step_row(pool, execution_id, 1)["id"], 0))
    early = go_on(pool, first)
    assert (early.recorded, early.successor, early.ready) == (True, None, ())
    late = go_on(pool, second).successor
    assert late is not None
    assert (late.step_index, late.scope) == (2, {"v1": {}})


# ------------------------------------------------------------------------------------------------------------ batches


def test_each_of_a_batch_is_answered_in_its_place(pool: Pool) -> None:
    """Forty executions, in no order, some at their end, some skipped."""
    claims = sorted(begin(pool, 20) + begin(pool, 20, 1), key=lambda claim: claim.step_id.int & 0xFFFFFFFF)
    ends = [wanted(claim, None if number % 5 == 0 else f"[{number}]") for number, claim in enumerate(claims)]
    for number, (claim, transition) in enumerate(zip(claims, complete_steps(pool, ends, WORKER, 1000), strict=True)):
        assert (transition.step_id, transition.execution_id) == (claim.step_id, claim.execution_id)
        assert (transition.recorded, transition.step_status) == (True, "completed" if number % 5 else "skipped")
        last = len(get_execution_steps(pool, claim.execution_id)) == 1
        assert transition.execution_status == ("completed" if last else "running")
        assert (transition.successor is None) == last
        if transition.successor is not None:
            assert transition.successor.execution_id == claim.execution_id
            assert transition.successor.scope == {"v0": [number] if number % 5 else None}


def test_an_attempt_that_lost_its_step_harms_no_other(pool: Pool) -> None:
    """It is dropped, and hands nothing over; its neighbours are recorded."""
    before, zombie, after = begin(pool, 3, retry={"maxAttempts": 2})
    charge(pool, zombie)
    take(pool, ReadyStep(zombie.step_id, zombie.attempt))  # by whom its status alone says nothing
    answers = complete_steps(pool, [wanted(claim) for claim in (before, zombie, after)], WORKER, 1000)
    assert [one.recorded for one in answers] == [True, False, True]
    assert [one.successor is not None for one in answers] == [True, False, True]
    assert (answers[1].step_status, answers[1].ready) == ("", ())
    assert statuses(pool, zombie.execution_id) == ["running", "pending", "pending"]


def test_several_are_claimed_without_the_one_that_is_not_due(pool: Pool) -> None:
    """Each is answered in its place."""
    claims = begin(pool, 3, retry={"maxAttempts": 2})
    for claim, delay in zip(claims, (0, 60_000, 0), strict=True):
        charge(pool, claim, delay_ms=delay)
    again = [ReadyStep(claim.step_id, 1) for claim in claims]
    taken = claim_steps(pool, again, WORKER, 1000)
    assert [claim and claim.step_id for claim in taken] == [again[0].step_id, None, again[2].step_id]


@pytest.mark.parametrize("what", ["claims", "completions"])
def test_two_calls_never_wait_for_each_other(pool: Pool, dsn: str, what: str) -> None:
    """All take their steps in one order: whoever waits for the first holds none of the others."""
    if what == "claims":
        first, *others = sorted(start(pool, 1)[1].step_id for _ in range(3))
        reverse = [ReadyStep(step_id, 0) for step_id in (*others[::-1], first)]
        call = threading.Thread(target=claim_steps, args=(pool, reverse, WORKER, 1000))
    else:
        claims = sorted(begin(pool, 3), key=lambda claim: claim.execution_id)
        first, *others = [claim.step_id for claim in claims]
        ends = [wanted(claim) for claim in claims[::-1]]
        call = threading.Thread(target=complete_steps, args=(pool, ends, WORKER, 1000))
    with connect(dsn) as other, other.transaction():
        other.execute("SELECT FROM workflow_steps WHERE id = %s FOR UPDATE", (first,))
        call.start()
        wait_until(lambda: look(pool, "SELECT FROM pg_locks WHERE NOT granted"), 30, "the wait for the first")
        other.execute("SELECT FROM workflow_steps WHERE id = ANY (%s) FOR UPDATE NOWAIT", (others,))
    call.join(30)
    assert len(look(pool, "SELECT FROM workflow_steps WHERE attempt = 1")) == (3 if what == "claims" else 6)


# ------------------------------------------------------------------------------------------- what several threads send


@pytest.fixture
def narrow(dsn: str) -> Iterator[Pool]:
    """A pool of one connection: whoever holds it holds the others up."""
    with open_pool(dsn, max_size=1) as opened:
        opened.timeout = 60.0
        yield opened


def send_together(pool: Pool, recorder: Recorder, ends: list[tuple[Claim, str]]) -> list[Claim]:
    """The first is sent and held up; the others gather behind it. The successors that came of it."""
    step, successors = plan(sequence(1)).steps[0], list[Claim]()
    attempts = [Attempt(claim, step, {}, Succeeded(None), output) for claim, output in ends]
    with pool.connection():
        leader = threading.Thread(target=recorder.send, args=(attempts[0], successors.append))
        leader.start()
        wait_until(lambda: recorder.pending() == 1, 30, "the first result")
        for attempt in attempts[1:]:
            recorder.send(attempt, successors.append)
        assert recorder.pending() == len(attempts)
    leader.join(30)
    assert recorder.pending() == 0
    return successors


def test_a_result_that_cannot_be_stored_fails_its_own_step_only(narrow: Pool) -> None:
    """All or none in the database; alone, each that can be recorded is."""
    claims = begin(narrow, 5)
    with pytest.raises(InvalidInput):
        complete_steps(narrow, [wanted(claims[0]), wanted(claims[1], REFUSED)], WORKER, 1000)
    assert statuses(narrow, claims[0].execution_id)[0] == "running"

    outputs = ["{}", "{}", REFUSED, "{}", "{}"]
    recorder = Recorder(narrow, None, WORKER, 1000)
    successors = send_together(narrow, recorder, list(zip(claims, outputs, strict=True)))
    bad = claims.pop(2)
    assert [claim.execution_id for claim in successors] == [claim.execution_id for claim in claims]
    assert all(statuses(narrow, claim.execution_id) == ["completed", "running", "pending"] for claim in claims)
    assert status_of(narrow, bad.execution_id) == "failed"
    assert step_row(narrow, bad.execution_id)["error_kind"] == "invalid_response"


def test_what_is_sent_together_keeps_two_steps_of_an_execution_apart(narrow: Pool) -> None:
    """A batch holds one step of an execution, whatever shape a definition has."""
    execution_id, ready = start(narrow, 3)
    alter(narrow, "UPDATE workflow_steps SET successors = '{}', needs_left = 0, next_run_at = now()")
    alter(narrow, "UPDATE workflow_executions SET leaves_left = 3")
    steps = [ReadyStep(step["id"], 0) for step in get_execution_steps(narrow, execution_id)]
    assert steps[0] == ready
    recorder = Recorder(narrow, None, WORKER, 1000)
    assert send_together(narrow, recorder, [(take(narrow, step), "{}") for step in steps]) == []
    assert status_of(narrow, execution_id) == "completed"
    commits = {whole_row(narrow, execution_id, index)["completed_at"] for index in range(3)}
    assert len(commits) == 3


# -------------------------------------------------------------------------------------------------------- lost answers


def test_a_completion_whose_answer_was_lost_answers_the_same_successor(pool: Pool) -> None:
    """Nothing happens twice, and nobody but the worker that has the successor is told of it."""
    (claim,) = begin(pool, 1)
    breaking = LosesItsAnswer(pool, "complete_steps")
    transition = complete_step(breaking, wanted(claim), WORKER, 1000)  # type: ignore[arg-type]
    assert breaking.lost == 1
    assert (transition.recorded, transition.step_status, transition.execution_status) == (True, "completed", "running")
    assert transition.successor is not None
    assert (transition.successor.step_index, transition.successor.attempt) == (1, 1)
    assert transition.successor.scope == {"v0": {}}
    before = get_execution_steps(pool, claim.execution_id)
    elsewhere = go_on(pool, claim, uuid4(), again=True)
    assert (elsewhere.recorded, elsewhere.successor, elsewhere.ready) == (True, None, ())
    assert not go_on(pool, claim).recorded  # only who asks again is told that it was done
    assert get_execution_steps(pool, claim.execution_id) == before
    assert go_on(pool, transition.successor).recorded


def test_the_last_completion_whose_answer_was_lost_ends_the_execution_once(pool: Pool) -> None:
    """What is asked again finds it completed."""
    (claim,) = begin(pool, 1, 1)
    breaking = LosesItsAnswer(pool, "complete_steps")
    transition = complete_step(breaking, wanted(claim), WORKER, 1000)  # type: ignore[arg-type]
    assert (transition.recorded, transition.execution_status, transition.successor) == (True, "completed", None)
    execution = get_execution(pool, claim.execution_id)
    go_on(pool, claim, again=True)
    assert get_execution(pool, claim.execution_id) == execution


def test_what_became_ready_in_a_lost_answer_is_answered_again(pool: Pool) -> None:
    """So that it need not wait for the dispatcher; what has been taken since is not named."""
    plain, forked = begin(pool, 2)
    alter(pool, "UPDATE workflow_steps SET successors = '{1,2}' WHERE id = %s", forked.step_id)
    sql = "UPDATE workflow_steps SET successors = '{}', needs_left = 1 WHERE step_index > 0 AND execution_id = %s"
    alter(pool, sql, forked.execution_id)
    ends = [Completion(plain, "{}", "{}"), wanted(forked)]
    one, two = complete_steps(pool, ends, WORKER, 1000)
    repeated = complete_steps(pool, ends, WORKER, 1000, again=True)
    assert [sorted(again.ready, key=str) for again in repeated] == [
        sorted(first.ready, key=str) for first in (one, two)
    ]
    take(pool, two.ready[0])
    assert complete_steps(pool, ends, WORKER, 1000, again=True)[1].ready == (two.ready[1],)


@pytest.mark.parametrize("skipped", [False, True])
def test_asking_again_for_what_never_was_records_it(pool: Pool, skipped: bool) -> None:
    """The connection broke before the statement ran; or the attempt was charged meanwhile, and stays so."""
    fresh, charged = begin(pool, 2, retry={"maxAttempts": 2})
    charge(pool, charged)
    output = None if skipped else "{}"
    ends = [wanted(fresh, output), wanted(charged, output)]
    one, other = complete_steps(pool, ends, WORKER, 1000, again=True)
    assert (one.recorded, one.successor is not None) == (True, True)
    assert (other.recorded, other.successor, other.step_status) == (False, None, "")


@pytest.mark.parametrize("outcome", [Succeeded(None), Skipped()])
def test_a_worker_goes_on_once_after_a_lost_answer(pool: Pool, outcome: Succeeded | Skipped) -> None:
    """The successor comes once, and by the second call."""
    (claim,) = begin(pool, 1)
    breaking, successors = LosesItsAnswer(pool, "complete_steps"), list[Claim]()
    recorder = Recorder(breaking, None, WORKER, 1000)  # type: ignore[arg-type]
    recorder.send(Attempt(claim, plan(sequence(1)).steps[0], {}, outcome, "{}"), successors.append)
    assert (breaking.lost, recorder.pending()) == (1, 0)
    assert [(one.step_index, one.attempt) for one in successors] == [(1, 1)]
