"""Counters equal rows: each transition is counted once, after its commit, in whatever process it happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.attempt_step import CALLING
from orchestrator.broker import StepBroker
from orchestrator.control import Controller, Wish
from orchestrator.outcome import Cancelled, Failed
from orchestrator.price import Price
from orchestrator.push import STEP_QUEUE, step_of
from orchestrator.recover import dispatch, reap
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from orchestrator.work_off_jobs import work_off
from persistence.ids import time_ordered_uuid
from persistence.pool import Pool, run
from persistence.settings import Settings
from persistence.transitions import ReadyStep
from tests.counters import counted, series, told_by_counters, told_by_rows
from tests.drive import drive, drive_some, submit
from tests.integration.test_transitions import make_due, take
from tests.workflows import FunctionTools, echo, sequence
from workers.in_flight import InFlight
from workers.process import WorkerProcess
from workers.run_step import StepRunner
from workers.start_workflow import start
from workers.work_queue import WorkQueue

FAILED = Failed("tool_error", "no", "definite")
FINISHED = ("afu9_executions_finished_total", "workflow", "status", "reason")


@pytest.fixture
def broker(settings: Settings) -> Iterator[StepBroker]:
    opened = StepBroker(settings.redis_url, namespace=settings.namespace)
    yield opened
    opened.close()


def change(pool: Pool, text: str) -> None:
    with pool.connection() as connection:
        connection.execute(text.encode())


def answers(*wanted: Any) -> Callable[..., Any]:
    """A tool that answers so, one after the other."""
    left = list(wanted)
    return lambda **_: left.pop(0)


def first_step(pool: Pool, execution_id: UUID, attempt: int = 0) -> ReadyStep:
    return ReadyStep(run(pool, "get_execution_steps", {"execution_id": execution_id})[0]["id"], attempt)


def one(name: str, tool: str, **step: Any) -> Any:
    return validate({"name": name, "steps": [{"name": "a", "tool": tool, "params": {}, **step}]})


def test_a_call_under_way_names_its_server(pool: Pool) -> None:
    """For the thread that waits, and no longer than it does."""
    seen: list[list[str]] = []
    tools = FunctionTools(echo=lambda **_: seen.append(list(CALLING.values())) or {})
    drive(pool, submit(pool, sequence(1)), tools)
    assert (seen, CALLING) == ([["test"]], {})


def test_what_workers_record_is_counted_as_the_rows_tell_it(pool: Pool) -> None:
    """Completed, skipped, tried again, failed, gone on after an error, handed back, and with a price."""
    tools = FunctionTools(echo=echo, fail=answers(FAILED, FAILED, {"fine": 1}, FAILED, Cancelled("stopped"), {}))
    tools.priced = {"test": {"echo": Price(Decimal("0.001"))}}
    bad = [{"name": f"s{n}", "tool": "test.echo", "params": {"value": "${input.absent}"}} for n in range(2)]
    goes_on = validate({"name": "goes_on", "steps": bad, "config": {"continueOnError": True}})
    with counted() as found:
        drive(pool, submit(pool, sequence(5)), tools)
        retry = {"maxAttempts": 3, "initialDelayMs": 100}
        drive(pool, submit(pool, one("flaky", "test.fail", retry=retry)), tools)
        drive(pool, submit(pool, one("fails", "test.fail")), tools)
        drive(pool, submit(pool, one("skips", "test.echo", **{"if": "false"})), tools)
        drive(pool, submit(pool, goes_on), tools)
        drive(pool, submit(pool, one("stops", "test.fail")), tools)
    assert told_by_counters(found) == told_by_rows(pool)
    assert series(found, *FINISHED) == {
        "sequence completed ok": 1,
        "flaky completed ok": 1,
        "fails failed tool_error": 1,
        "skips completed ok": 1,
        "goes_on completed ok": 1,
        "stops completed ok": 1,
    }
    assert series(found, "afu9_steps_finished_total", "workflow", "reason")["goes_on invalid"] == 1
    assert series(found, "afu9_tool_call_duration_seconds_count", "tool", "outcome") == {
        "echo ok": 5,
        "fail tool_error": 3,
        "fail ok": 2,
        "fail cancelled": 1,
    }
    assert series(found, "afu9_execution_start_delay_seconds_count", "queue") == {STEP_QUEUE: 6}
    assert series(found, "afu9_execution_duration_seconds_count", "workflow")["sequence"] == 1
    assert CALLING == {}


def test_results_that_are_recorded_together_are_counted_one_by_one(pool: Pool) -> None:
    """Through a worker's queue; one that comes too late is no step, but a lost lease."""
    queue, tools = WorkQueue(4), FunctionTools(echo=echo)
    runner = StepRunner(pool, None, tools, uuid4(), InFlight(), queue)

    def work(step: ReadyStep) -> None:
        with runner.in_flight.only(step):
            runner.work_on(step)

    with counted() as found:
        work(first_step(pool, submit(pool, sequence(6))))
        while not queue.empty():
            step = step_of(queue.get_nowait().message)
            assert step is not None
            work(step)
        late = first_step(pool, submit(pool, sequence(1)))

        def slow(**arguments: Any) -> Any:
            change(pool, "UPDATE workflow_steps SET attempt = attempt + 1 WHERE status = 'running'")
            return arguments

        tools._tools["echo"] = slow
        work(late)
    assert told_by_counters(found) == told_by_rows(pool)
    assert series(found, "afu9_lease_lost_total") == {"": 1}


def test_what_the_orchestrator_does_is_counted(pool: Pool, broker: StepBroker) -> None:
    """A lost step is tried again and then fails, a message is doubted, an execution runs out of time."""
    with counted() as found:
        lost = submit(pool, sequence(1))
        for attempt in range(2):
            change(pool, "UPDATE workflow_steps SET next_run_at = now()")
            take(pool, first_step(pool, lost, attempt))
            change(pool, "DELETE FROM workers")
            reap(pool, broker, 30, 2)
        doubted = submit(pool, sequence(1))
        for _ in range(2):
            broker.client.delete(broker.key(STEP_QUEUE))
            make_due(pool, doubted)
            dispatch(pool, broker)
        late = submit(pool, sequence(1, config={"timeoutMs": 1000}))
        change(
            pool, "UPDATE workflow_executions SET deadline_at = now() - interval '1 s' WHERE deadline_at IS NOT NULL"
        )
        reap(pool, broker, 30, 2)
        assert drive_some(pool, late, FunctionTools(echo=echo), 1) == "failed"
    assert told_by_counters(found) == told_by_rows(pool)
    assert series(found, *FINISHED) == {"sequence failed engine_error": 1, "sequence failed timeout": 1}
    assert series(found, "afu9_recovered_total", "cause") == {"worker_gone": 2, "message_lost": 1}


def test_a_step_that_fails_after_its_execution_did_ends_it_no_second_time(pool: Pool, broker: StepBroker) -> None:
    """The execution ran out of time while the call was under way."""
    execution_id = submit(pool, one("late", "test.fail"))

    def late(**_: Any) -> Failed:
        change(pool, "UPDATE workflow_executions SET deadline_at = now() - interval '1 s'")
        lease = """INSERT INTO workers (id, role, hostname, pid, threads)
                   SELECT worker_id, 'worker', 'here', 1, 1 FROM workflow_steps WHERE status = 'running'"""
        change(pool, lease)
        reap(pool, broker, 30, 3)
        return FAILED

    with counted() as found:
        drive_some(pool, execution_id, FunctionTools(fail=late), 1)
    assert series(found, *FINISHED) == {"late failed timeout": 1}
    assert series(found, "afu9_steps_finished_total", "step", "status", "reason") == {"a failed tool_error": 1}


def test_what_people_do_is_counted(pool: Pool, broker: StepBroker, settings: Settings) -> None:
    """Cancelled alone and by a job, forked with results that are taken over, started by name and by a message."""
    tools, controller = FunctionTools(echo=echo), Controller(pool, None)
    with counted() as found:
        controller.carry_out(submit(pool, sequence(2)), Wish("cancel", "me"))
        done = submit(pool, sequence(3))
        drive(pool, done, tools)
        fork = controller.carry_out(done, Wish("fork", "me", step="step_2"))
        drive(pool, fork.execution_id, tools)
        many = [submit(pool, sequence(2)) for _ in range(3)]
        job = {
            "id": time_ordered_uuid(),
            "action": "cancel",
            "ids": many,
            "filter": None,
            "actor": "me",
            "reason": None,
        }
        run(pool, "create_job", {**job, "total": 3})
        work_off(pool, broker, 30)
        submitter = Submitter(pool, None)
        submitter.register(sequence(1))
        submitter.submit_named("sequence", [Request(idempotency_key="k"), Request()])
        submitter.submit_named("sequence", [Request(idempotency_key="k")])
        process = WorkerProcess(settings)
        process.runner = StepRunner(pool, None, tools, uuid4(), InFlight())
        for key in ("m", "m", "k"):
            start(process, "sequence", {}, key)
    told = told_by_rows(pool)
    assert told["finished sequence cancelled"] == 4
    assert told["reuse sequence"] == 2
    assert told_by_counters(found) == told
