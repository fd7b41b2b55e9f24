"""The guards of the transitions, one test per clause that nothing else would miss."""

from __future__ import annotations

import json
import threading
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from orchestrator.submit import Request, Submitter
from persistence.executions import get_execution, get_execution_steps
from persistence.pool import Pool, connect, run
from persistence.transitions import ReadyStep, charge_step, claim_step, release_step
from tests.integration.test_transitions import (
    WORKER,
    catalogue,
    charge,
    finish,
    make_due,
    reap,
    renew,
    silence,
    start,
    step_row,
    take,
)
from tests.steps import complete, skip
from tests.workflows import sequence

TWICE = {"maxAttempts": 3}


def alter(pool: Pool, sql: str, *parameters: object) -> None:
    """Puts rows into a state that a test needs."""
    with pool.connection() as connection:
        connection.execute(sql.encode(), parameters)


def look(pool: Pool, sql: str, *parameters: object) -> list[dict[str, Any]]:
    with pool.connection() as connection:
        return connection.execute(sql.encode(), parameters).fetchall()


def rest(pool: Pool, execution_id: UUID, status: str) -> None:
    alter(pool, "UPDATE workflow_executions SET status = %s WHERE id = %s", status, execution_id)


def fork(pool: Pool) -> tuple[UUID, ReadyStep, ReadyStep]:
    """An execution whose first step is done and whose two others are ready leaves."""
    execution_id, ready = start(pool, 3, retry=TWICE)
    alter(pool, "UPDATE workflow_steps SET successors = '{1,2}' WHERE step_index = 0")
    alter(pool, "UPDATE workflow_steps SET successors = '{}', needs_left = 1 WHERE step_index > 0")
    alter(pool, "UPDATE workflow_executions SET leaves_left = 2")
    left, right = finish(pool, take(pool, ready)).ready
    return execution_id, left, right


def status_of(pool: Pool, execution_id: UUID) -> str:
    execution = get_execution(pool, execution_id)
    assert execution is not None
    return str(execution["status"])


# ---------------------------------------------------------------------------------------------------------- claims


def test_the_message_of_an_earlier_attempt_claims_nothing(pool: Pool) -> None:
    """It may come minutes late, when the step is pending again."""
    _, ready = start(pool, retry=TWICE)
    charge(pool, take(pool, ready))
    assert claim_step(pool, ready, WORKER, 1000) is None


def test_a_running_or_ended_step_is_not_claimed_by_its_newest_attempt(pool: Pool) -> None:
    """Only a pending step is there to be taken, whatever number the message holds."""
    _, ready = start(pool)
    claim = take(pool, ready)
    newest = ReadyStep(claim.step_id, claim.attempt)
    assert claim_step(pool, newest, WORKER, 1000) is None
    finish(pool, claim)
    assert claim_step(pool, newest, WORKER, 1000) is None


def test_the_start_of_a_step_is_that_of_its_first_attempt(pool: Pool) -> None:
    """And its duration counts from there, the waiting between attempts included."""
    execution_id, ready = start(pool, retry=TWICE)
    charge(pool, take(pool, ready))
    alter(pool, "UPDATE workflow_steps SET started_at = now() - interval '1 hour' WHERE started_at IS NOT NULL")
    claim = take(pool, ReadyStep(ready.step_id, 1))
    step = step_row(pool, execution_id)
    assert (step["claimed_at"] - step["started_at"]).total_seconds() >= 3600
    finish(pool, claim)
    assert step_row(pool, execution_id)["duration_ms"] >= 3_600_000


@pytest.mark.parametrize(("own", "allowed"), [({}, 31), ({"timeoutMs": 5000}, 35)])
def test_the_deadline_of_an_attempt_is_its_timeout_and_a_grace(pool: Pool, own: dict[str, int], allowed: int) -> None:
    """The step's own timeout before the worker's, and half a minute to record the result."""
    execution_id, ready = start(pool, 1, **own)
    take(pool, ready)
    step = step_row(pool, execution_id)
    assert (step["deadline_at"] - step["claimed_at"]).total_seconds() == allowed


def test_each_attempt_is_pushed_from_the_shortest_distance_again(pool: Pool) -> None:
    """A claim resets the count of pushes: the next attempt's message is not doubted because of this one's."""
    execution_id, ready = start(pool, 1, retry=TWICE)
    for _ in range(3):
        make_due(pool, execution_id)
        run(pool, "dispatch_steps", {"limit": 10})
    charge(pool, take(pool, ready))
    make_due(pool, execution_id)
    assert [row["dispatch_count"] for row in run(pool, "dispatch_steps", {"limit": 10})] == [1]


def test_a_preset_variable_hides_a_context_key_of_its_name(pool: Pool) -> None:
    """The same order in which the engine without a database looks."""
    context = {"v0": "context", "variables": {"v0": "variable"}}
    workflow = sequence(1, params={"x": "${v0}"}, assign="other")
    (submitted,) = Submitter(pool, None).submit(workflow, [Request(context=context)])
    assert take(pool, submitted.ready[0]).scope == {"v0": "variable"}


def test_losses_do_not_lengthen_the_backoff(pool: Pool) -> None:
    """retries_so_far counts the tool's failures alone."""
    _, ready = start(pool, retry=TWICE)
    take(pool, ready)
    silence(pool, WORKER)
    reap(pool)
    assert take(pool, ReadyStep(ready.step_id, 1)).retries_so_far == 0


# ------------------------------------------------------------------------------------------------------------- ends


def test_a_result_of_an_earlier_attempt_is_dropped_while_a_later_one_runs(pool: Pool) -> None:
    """The status alone is no fence: the step is running, in other hands."""
    execution_id, ready = start(pool, retry=TWICE)
    zombie = take(pool, ready)
    charge(pool, zombie)
    take(pool, ReadyStep(ready.step_id, 1))
    assert not finish(pool, zombie).recorded
    assert not skip(pool, zombie).recorded
    assert not charge(pool, zombie).recorded
    assert not release_step(pool, zombie, "late").recorded
    assert (step_row(pool, execution_id)["status"], step_row(pool, execution_id)["retry_count"]) == ("running", 1)


def test_an_ended_step_is_not_ended_again(pool: Pool) -> None:
    """A repeated completion would count its successors down twice."""
    execution_id, ready = start(pool)
    claim = take(pool, ready)
    finish(pool, claim)
    assert not finish(pool, claim).recorded
    assert not skip(pool, claim).recorded
    assert not charge(pool, claim).recorded
    assert not release_step(pool, claim, "late").recorded
    assert [step["status"] for step in get_execution_steps(pool, execution_id)] == ["completed", "pending", "pending"]


def test_a_completed_step_keeps_no_trace_of_its_failures(pool: Pool) -> None:
    """They are events; the row holds the params as they were sent and nobody's name."""
    execution_id, ready = start(pool, retry=TWICE)
    charge(pool, take(pool, ready))
    claim = take(pool, ReadyStep(ready.step_id, 1))
    assert complete(pool, claim, "null", '{"sent":1}').recorded
    step = step_row(pool, execution_id)
    assert [step[key] for key in ("error", "error_kind", "worker_id", "deadline_at")] == [None] * 4
    assert step["input"] == {"sent": 1}


def test_a_loss_keeps_the_params_of_the_attempt_before(pool: Pool) -> None:
    """The reaper does not know them, and what was sent last is worth seeing."""
    execution_id, ready = start(pool, retry=TWICE)
    charge_step(
        pool,
        ready.step_id,
        take(pool, ready).attempt,
        kind="x",
        error="y",
        retryable=True,
        delay_ms=0,
        params='{"a":1}',
    )
    take(pool, ReadyStep(ready.step_id, 1))
    silence(pool, WORKER)
    reap(pool)
    assert step_row(pool, execution_id)["input"] == {"a": 1}


def test_a_charged_step_belongs_to_nobody_and_has_not_ended(pool: Pool) -> None:
    """Its worker is free, and its end and duration come with the last attempt."""
    execution_id, ready = start(pool, retry=TWICE)
    charge(pool, take(pool, ready))
    step = step_row(pool, execution_id)
    assert [step[key] for key in ("worker_id", "deadline_at", "completed_at", "duration_ms")] == [None] * 4


def test_a_released_step_belongs_to_nobody(pool: Pool) -> None:
    """Neither its worker's death nor its old deadline concerns it."""
    execution_id, ready = start(pool)
    release_step(pool, take(pool, ready), "shutdown")
    step = step_row(pool, execution_id)
    assert (step["worker_id"], step["deadline_at"]) == (None, None)


def test_the_tools_failures_use_up_its_retries_whatever_was_lost_between(pool: Pool) -> None:
    """One loss and one failure: a step with one retry still has it."""
    _, ready = start(pool, retry={"maxAttempts": 2})
    take(pool, ready)
    silence(pool, WORKER)
    reap(pool)
    renew(pool, WORKER)
    assert charge(pool, take(pool, ReadyStep(ready.step_id, 1))).step_status == "pending"
    assert charge(pool, take(pool, ReadyStep(ready.step_id, 2))).step_status == "failed"


def test_every_attempt_that_did_not_make_it_is_an_event(pool: Pool) -> None:
    """Failed, lost and released, each with its number, its kind and when it began."""
    execution_id, ready = start(pool, retry=TWICE)
    charge(pool, take(pool, ready))
    release_step(pool, take(pool, ReadyStep(ready.step_id, 1)), "shutdown")
    take(pool, ReadyStep(ready.step_id, 2))
    silence(pool, WORKER)
    reap(pool)
    events = run(pool, "get_execution_events", {"execution_id": execution_id})
    assert [(event["event"], event["attempt"], event["kind"]) for event in events] == [
        ("attempt_failed", 1, "tool_error"),
        ("attempt_released", 2, None),
        ("attempt_lost", 3, "worker_lost"),
    ]
    assert all(event["step_id"] == ready.step_id and event["started_at"] for event in events)


def test_the_last_loss_is_counted_nowhere(pool: Pool) -> None:
    """It is the end and no retry: attempt = 1 + retry_count + released_count, and lost_count never exceeds retry_count."""
    execution_id, ready = start(pool)
    for attempt in range(3):
        renew(pool, WORKER)
        take(pool, ReadyStep(ready.step_id, attempt))
        silence(pool, WORKER)
        reap(pool)
    step = step_row(pool, execution_id)
    assert (step["attempt"], step["retry_count"], step["lost_count"]) == (3, 2, 2)


# ------------------------------------------------------------------------------------------------ executions at rest


def test_an_execution_ends_once(pool: Pool) -> None:
    """A step that fails after its execution was cancelled or has failed changes neither status nor error."""
    execution_id, left, right = fork(pool)
    first, second = take(pool, left), take(pool, right)
    charge(pool, first, retryable=False)
    before = get_execution(pool, execution_id)
    assert charge(pool, second, retryable=False).execution_status == "failed"
    assert get_execution(pool, execution_id) == before
    execution_id, left, _ = fork(pool)
    claim = take(pool, left)
    rest(pool, execution_id, "cancelled")
    assert charge(pool, claim, retryable=False).execution_status == "cancelled"
    assert status_of(pool, execution_id) == "cancelled"


def test_the_waiting_steps_of_a_failed_execution_leave_the_outbox(pool: Pool) -> None:
    """Else the dispatcher would look at them for ever."""
    _, left, _ = fork(pool)
    charge(pool, take(pool, left), retryable=False)
    assert run(pool, "next_dispatch")[0]["seconds"] is None


def test_a_completed_execution_waits_for_no_leaf(pool: Pool) -> None:
    """The counter tells the truth at rest."""
    execution_id, ready = start(pool, 1)
    finish(pool, take(pool, ready))
    assert look(pool, "SELECT leaves_left FROM workflow_executions WHERE id = %s", execution_id) == [{"leaves_left": 0}]


def test_the_last_leaf_of_a_paused_execution_does_not_complete_it(pool: Pool) -> None:
    """It is counted; whoever resumes decides what follows."""
    execution_id, ready = start(pool, 1)
    claim = take(pool, ready)
    rest(pool, execution_id, "paused")
    assert finish(pool, claim).execution_status == "paused"
    rows = look(pool, "SELECT status, leaves_left FROM workflow_executions WHERE id = %s", execution_id)
    assert rows == [{"status": "paused", "leaves_left": 0}]


@pytest.mark.parametrize("ending", ["complete", "charge", "release"])
def test_nothing_enters_the_outbox_of_a_paused_execution(pool: Pool, ending: str) -> None:
    """What becomes runnable meanwhile waits for the resume, without a due message."""
    execution_id, ready = start(pool, retry=TWICE)
    claim = take(pool, ready)
    rest(pool, execution_id, "paused")
    if ending == "complete":
        assert finish(pool, claim).ready == ()
    elif ending == "charge":
        assert charge(pool, claim).step_status == "pending"
    else:
        assert release_step(pool, claim, "shutdown").step_status == "pending"
    assert run(pool, "next_dispatch")[0]["seconds"] is None


def test_a_step_that_waits_for_two_is_ready_after_the_second(pool: Pool) -> None:
    """And has no due time before."""
    execution_id, ready = start(pool, 3)
    alter(pool, "UPDATE workflow_steps SET successors = '{2}', needs_left = 0 WHERE step_index < 2")
    alter(pool, "UPDATE workflow_steps SET needs_left = 2 WHERE step_index = 2")
    alter(pool, "UPDATE workflow_steps SET next_run_at = now() WHERE step_index = 1")
    assert finish(pool, take(pool, ready)).ready == ()
    assert step_row(pool, execution_id, 2)["next_run_at"] is None
    second = ReadyStep(step_row(pool, execution_id, 1)["id"], 0)
    assert [step.step_id for step in finish(pool, take(pool, second)).ready] == [step_row(pool, execution_id, 2)["id"]]


def test_the_outputs_of_two_leaves_that_commit_together_are_both_kept(pool: Pool, dsn: str) -> None:
    """The second waits for the first one's commit, counts on from it, and composes the output with it."""
    execution_id, left, right = fork(pool)
    first, second = take(pool, left), take(pool, right)
    completed = """SELECT * FROM complete_steps(jsonb_build_array(jsonb_build_object(
                       'step', %s::uuid, 'attempt', %s::int, 'output', %s::jsonb)), NULL, 0, false)"""
    with connect(dsn) as earlier:
        with earlier.transaction():
            earlier.execute(completed, (first.step_id, first.attempt, json.dumps("left")))
            other = threading.Thread(target=finish, args=(pool, second))
            other.start()
            other.join(0.5)
            assert other.is_alive()  # it waits for the execution's row
        other.join(10)
    execution = get_execution(pool, execution_id)
    assert execution is not None
    assert execution["status"] == "completed"
    assert set(execution["output"]) == {"v0", "v1", "v2"}


# --------------------------------------------------------------------------------------------------------- recovery


def test_what_was_just_pushed_is_not_due_at_once(pool: Pool) -> None:
    """The one who made it runnable pushes it; the dispatcher waits 10 s for the claim."""
    _, ready = start(pool, 2)
    assert round(run(pool, "next_dispatch")[0]["seconds"]) == 10
    finish(pool, take(pool, ready))
    assert round(run(pool, "next_dispatch")[0]["seconds"]) == 10


def test_only_steps_of_running_executions_are_dispatched(pool: Pool) -> None:
    """A due step of an execution at rest is not pushed."""
    execution_id, _ = start(pool)
    make_due(pool, execution_id)
    rest(pool, execution_id, "paused")
    assert run(pool, "dispatch_steps", {"limit": 10}) == []


def test_the_longest_due_are_dispatched_first_and_no_more_than_asked(pool: Pool) -> None:
    """A backlog leaves in order, batch by batch."""
    due = [start(pool, 1)[1].step_id for _ in range(4)]
    for age, step_id in enumerate(due):
        alter(
            pool,
            "UPDATE workflow_steps SET dispatch_after = now() - %s * interval '1 s' WHERE id = %s",
            age + 1,
            step_id,
        )
    rounds = [{row["step_id"] for row in run(pool, "dispatch_steps", {"limit": 2})} for _ in range(3)]
    assert rounds == [{due[3], due[2]}, {due[1], due[0]}, set()]
    alter(pool, "UPDATE workflow_steps SET dispatch_after = now() - interval '1 s' WHERE id = %s", due[0])
    assert run(pool, "next_dispatch")[0]["seconds"] < 0


@pytest.mark.parametrize("loop", ["dispatch", "reap"])
def test_two_processes_recover_side_by_side(pool: Pool, dsn: str, loop: str) -> None:
    """A row that another one holds is passed over, not waited for."""
    execution_id, ready = start(pool, 1)
    make_due(pool, execution_id)
    if loop == "reap":
        take(pool, ready)
        silence(pool, WORKER)
    with connect(dsn) as other, other.transaction():
        other.execute("SELECT FROM workflow_steps FOR NO KEY UPDATE")
        with pool.connection() as connection:
            connection.execute("SET lock_timeout = '2s'")
        rows = reap(pool) if loop == "reap" else run(pool, "dispatch_steps", {"limit": 10})
    assert rows == []


def test_the_reaper_takes_no_more_than_asked(pool: Pool) -> None:
    """A dead fleet's steps are charged batch by batch."""
    for _ in range(3):
        take(pool, start(pool, 1)[1])
    silence(pool, WORKER)
    batch = {"silence": 30, "max_lost": 3, "limit": 2}
    assert [len(run(pool, "reap_steps", batch)) for _ in range(3)] == [2, 1, 0]


def test_the_reaper_answers_what_is_to_be_pushed(pool: Pool) -> None:
    """A step that is pending again, at the attempt its claim must find; after its last loss, what follows it."""
    _, ready = start(pool, 2, config={"continueOnError": True})
    for attempt in (1, 2):
        renew(pool, WORKER)
        take(pool, ReadyStep(ready.step_id, attempt - 1))
        silence(pool, WORKER)
        (lost,) = reap(pool)
        assert (lost["ready_steps"], lost["ready_attempts"]) == ([ready.step_id], [attempt])
    renew(pool, WORKER)
    take(pool, ReadyStep(ready.step_id, 2))
    silence(pool, WORKER)
    (lost,) = reap(pool)
    assert lost["step_status"] == "failed"
    assert (len(lost["ready_steps"]), lost["ready_attempts"]) == (1, [0])
    assert lost["ready_steps"] != [ready.step_id]


def test_only_running_executions_run_out_of_time(pool: Pool) -> None:
    """A paused one has its deadline behind it and stays paused."""
    execution_id, _ = start(pool, config={"timeoutMs": 1000})
    alter(pool, "UPDATE workflow_executions SET deadline_at = now() - interval '1 s'")
    rest(pool, execution_id, "paused")
    assert run(pool, "expire_executions", {"limit": 10}) == []
    assert status_of(pool, execution_id) == "paused"


def test_the_deadline_of_an_execution_counts_from_its_submission(pool: Pool) -> None:
    """config.timeoutMs as written; without it there is none."""
    for config, expected in (({"timeoutMs": 90_000}, 90), ({}, None)):
        execution_id, _ = start(pool, 1, config=config)
        execution = get_execution(pool, execution_id)
        assert execution is not None
        deadline = execution["deadline_at"]
        assert (deadline and (deadline - execution["started_at"]).total_seconds()) == expected


# ----------------------------------------------------------------------------------------------- leases, the catalogue


def test_a_lease_names_the_workers_own_stopped_steps_only(pool: Pool) -> None:
    """A cancelled execution stops its calls; one that failed elsewhere lets its running steps end."""
    execution_id, ready = start(pool)
    take(pool, ready)
    other = uuid4()
    renew(pool, other)
    assert renew(pool, WORKER) == []
    rest(pool, execution_id, "failed")
    assert renew(pool, WORKER) == []
    rest(pool, execution_id, "cancelled")
    assert renew(pool, WORKER) == [ready.step_id]
    assert renew(pool, other) == []


def test_a_worker_that_once_held_an_ended_step_can_be_buried(pool: Pool) -> None:
    """Only running steps keep its lease row."""
    _, ready = start(pool, retry=TWICE)
    finish(pool, take(pool, ready))
    alter(pool, "UPDATE workflow_steps SET worker_id = %s WHERE status = 'completed'", WORKER)
    silence(pool, WORKER)
    assert [row["worker_id"] for row in run(pool, "bury_workers", {"silence": 30})] == [WORKER]


def test_a_worker_that_renews_its_lease_is_not_buried(pool: Pool) -> None:
    """Idle is not dead."""
    renew(pool, WORKER)
    assert run(pool, "bury_workers", {"silence": 30}) == []


def test_the_catalogues_word_is_found_for_names_with_dots_and_for_whole_servers(pool: Pool) -> None:
    """A tool's name begins after the first dot; what is not listed has its server's word; an unknown server says nothing."""
    catalogue(pool, repeatable=False)
    tools = json.dumps([{"tool": "a.b.c", "repeatable": False, "hash": "h"}])
    run(pool, "store_tools", {"server": "test", "era": "x", "tools": tools})
    asked = "SELECT tool_repeatable(%s) AS a, tool_repeatable(%s) AS b, tool_repeatable(%s) AS c"
    assert look(pool, asked, "test.a.b.c", "test.other", "nobody.x") == [{"a": False, "b": True, "c": None}]
    run(pool, "claim_refresh", {"server": "test", "repeat_unannotated": False, "ttl": 0})
    assert look(pool, asked, "test.a.b.c", "test.other", "nobody.x") == [{"a": False, "b": False, "c": None}]


def test_a_tool_that_stayed_the_same_keeps_the_time_of_its_change(pool: Pool) -> None:
    """And a list that came clears the fault of the one that did not."""
    catalogue(pool, repeatable=True)
    run(pool, "note_server_error", {"server": "test", "error": "away"})
    before = run(pool, "list_tools", {"server": "test"})
    catalogue(pool, repeatable=True)
    after = run(pool, "list_tools", {"server": "test"})
    assert after[0]["changed_at"] == before[0]["changed_at"]
    assert after[0]["fetched_at"] > before[0]["fetched_at"]
    assert run(pool, "list_servers")[0]["error"] is None


# --------------------------------------------------------------------------------------------------------- variables


def test_variables_are_the_preset_ones_and_what_completed_steps_assigned(pool: Pool) -> None:
    """While it runs and at the end; the rest of the context stays beside them."""
    context = {"repo": {"owner": "ada"}, "variables": {"known": 1, "v0": "old"}}
    (submitted,) = Submitter(pool, None).submit(sequence(2), [Request(context=context)])
    execution_id = submitted.execution_id
    (following,) = finish(pool, take(pool, submitted.ready[0])).ready
    variables = {"known": 1, "v0": {"index": 0}}
    for _ in range(2):
        execution = get_execution(pool, execution_id)
        assert execution is not None
        assert execution["context"] == {"repo": {"owner": "ada"}, "input": {}, "variables": variables}
        if execution["status"] == "running":
            skip(pool, take(pool, following))
    assert status_of(pool, execution_id) == "completed"


def test_a_running_step_is_never_in_the_outbox(pool: Pool) -> None:
    """The schema refuses it, whoever writes it."""
    execution_id, ready = start(pool)
    take(pool, ready)
    with pytest.raises(psycopg.errors.CheckViolation):
        alter(pool, "UPDATE workflow_steps SET dispatch_after = now() WHERE status = 'running'")
    assert step_row(pool, execution_id)["status"] == "running"
