"""What a step costs, as numbers that no machine changes: statements, commits, round trips, rows and Redis commands.

docs/performance.md repeats them under "What a step costs". Whoever changes one has changed what the project is for: it is a
decision, not a detail. A worker's threads and Dramatiq's are replaced by the test's own, so that nothing depends on who is
quicker; what they call is what they always call.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from orchestrator.broker import StepBroker
from orchestrator.hints import Teller
from orchestrator.price import Price
from orchestrator.push import STEP_QUEUE, step_of
from orchestrator.submit import Request, Submitter
from persistence import gather
from persistence.embedded import Endpoints
from persistence.pool import Pool, open_pool
from persistence.settings import Settings
from persistence.transitions import Claim, ReadyStep
from tests.fleet import count, wait_until
from tests.meter import Cost, Meter, no_vacuum
from tests.workflows import FunctionTools, echo, sequence
from workers.engine import WorkflowEngine
from workers.in_flight import Handed, InFlight
from workers.run_step import StepRunner
from workers.work_queue import WorkQueue

TOGETHER = 32  # executions whose steps end at once
WARM = 8  # steps until every statement is prepared and every script is loaded

BY_HAND_OVER = Cost(
    statements=1,  # complete_steps: records the step and claims the next one
    round_trips=1,
    commits=1,
    updated=2,  # the step and its successor, never the execution
    hot=0,  # both change what a partial index holds
    read={
        "workflow_definitions": 0,
        "workflow_executions": 2,  # whether it runs; what the claim is given of it
        "workflow_steps": 4,  # the two that are written, the successor once more, and the one variable that it names
        "workflow_events": 0,
        "workflow_step_results": 0,
        "workflow_archives": 0,
    },
    redis={},  # hints for live readers go out on their own, twenty times a second at most
)

CLAIM = Cost(
    statements=1,
    round_trips=1,
    commits=1,
    updated=1,
    read={
        "workflow_definitions": 0,
        "workflow_executions": 2,
        "workflow_steps": 1,
        "workflow_events": 0,
        "workflow_step_results": 0,
        "workflow_archives": 0,
    },
)

ACROSS_WORKERS = Cost(
    statements=2,  # claim_steps, complete_steps
    round_trips=2,
    commits=2,
    updated=3,  # the claim; the step and its successor's counter
    hot=0,
    read={
        "workflow_definitions": 0,
        "workflow_executions": 3,
        "workflow_steps": 5,
        "workflow_events": 0,
        "workflow_step_results": 0,
        "workflow_archives": 0,
    },
    redis={
        "evalsha": 3,  # the round trips: push, fetch, acknowledgement. What follows happens inside of them
        "hsetnx": 1,  # push: the message, once per attempt
        "rpush": 2,  # push: into the queue, and the wake
        "ltrim": 1,
        "expire": 1,
        "publish": 1,  # push: the hint for live readers
        "lpop": 2,  # fetch: the message, and the end of the queue
        "sadd": 1,
        "hmget": 1,
        "srem": 1,  # acknowledgement
        "hdel": 1,
        "zadd": 1,  # fetch: the consumer's heartbeat
    },
)


PRICED = replace(
    BY_HAND_OVER,
    updated=3,  # cost_days
    hot=1,
    read=BY_HAND_OVER.read | {"workflow_definitions": 1, "workflow_executions": 3, "workflow_steps": 6},
)


def times(cost: Cost, factor: int, **others: Any) -> Cost:
    """Of so many steps."""
    rows = {table: factor * rows for table, rows in cost.read.items()}
    calls = {name: factor * calls for name, calls in cost.redis.items()}
    plain = ("statements", "round_trips", "commits", "updated", "hot")
    scaled = {name: factor * getattr(cost, name) for name in plain}
    return replace(cost, **(scaled | {"read": rows, "redis": calls} | others))


@pytest.fixture
def pool(dsn: str) -> Iterator[Pool]:
    """Whoever holds its one connection holds everybody up."""
    with open_pool(dsn, max_size=1) as opened:
        opened.timeout = 60.0
        yield opened


@pytest.fixture
def meter(pool: Pool, servers: Endpoints, valkey: redis.Redis, tmp_path: Path) -> Iterator[Meter]:
    with no_vacuum(servers.database_url) as watcher:
        yield Meter(pool, watcher, valkey, tmp_path / "wire")


@pytest.fixture
def broker(servers: Endpoints, valkey: redis.Redis) -> Iterator[StepBroker]:
    broker = StepBroker(servers.redis_url)
    yield broker
    broker.close()


class OneWorker:
    """A worker whose threads are the test's."""

    def __init__(self, pool: Pool, broker: StepBroker, queue: WorkQueue | None):
        broker.teller = Teller(broker.publish) if queue is not None else None  # not started: its pace is a clock's
        self.queue = queue
        self.tools = FunctionTools(echo=echo)
        self.runner = StepRunner(pool, broker, self.tools, uuid4(), InFlight(), queue)

    def work_on(self, step: ReadyStep) -> None:
        with self.runner.in_flight.only(step):
            self.runner.work_on(step)

    def work_on_next(self) -> None:
        assert self.queue is not None
        step = step_of(self.queue.get_nowait().message)
        assert step is not None
        self.work_on(step)

    def work_all(self) -> None:
        while self.queue is not None and not self.queue.empty():
            self.work_on_next()

    def go_on_with(self, claim: Claim) -> None:
        assert self.queue is not None
        self.queue.deliver(self.runner.in_flight.hand(Handed(claim, 0, 0.0)))


def submit(pool: Pool, broker: StepBroker | None, steps: int, executions: int = 1) -> list[ReadyStep]:
    """The first steps."""
    requests = [Request(input={"n": 1}) for _ in range(executions)]
    return [one.ready[0] for one in Submitter(pool, broker).submit(sequence(steps), requests)]


@pytest.mark.parametrize("length", [WARM + 30, 10_000])
def test_a_step_that_its_worker_goes_on_to_costs_one_statement(
    pool: Pool, meter: Meter, broker: StepBroker, length: int
) -> None:
    """The middle of a sequence, whatever its length: one commit, two rows, nothing in Redis."""
    worker = OneWorker(pool, broker, WorkQueue(4))
    (first,) = submit(pool, broker, length)
    submit(pool, None, 5, 2000)  # others, so that no plan is worse than another for want of rows
    with pool.connection() as connection:
        connection.execute("ANALYZE")  # the planner knows how few of so many are running
    worker.work_on(first)
    for _ in range(WARM):
        worker.work_on_next()
    with meter.costs() as one:
        worker.work_on_next()
    with meter.costs() as twenty:
        for _ in range(20):
            worker.work_on_next()
    assert one == BY_HAND_OVER
    assert twenty == times(BY_HAND_OVER, 20)


def test_a_sequence_is_claimed_once(pool: Pool, meter: Meter, broker: StepBroker) -> None:
    """Ten steps: one claim and ten completions, the last of which brings the execution to rest."""
    worker = OneWorker(pool, broker, WorkQueue(4))
    for first in submit(pool, broker, 10, 2):
        with meter.costs() as cost:
            worker.work_on(first)
            for _ in range(9):
                worker.work_on_next()
    assert (cost.statements, cost.round_trips, cost.commits) == (11, 11, 11)
    assert (cost.updated, cost.inserted, cost.deleted) == (10 * 2 + 1, 0, 0)  # each step twice, the execution once
    assert cost.redis == {}


def test_steps_that_begin_or_end_together_share_one_commit(
    pool: Pool, meter: Meter, broker: StepBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's statement is held up, as a disk would hold it up: what the others want meanwhile is one more."""
    monkeypatch.setattr(gather, "STUCK", 60.0)  # nobody loses patience with the first one
    worker = OneWorker(pool, broker, WorkQueue(TOGETHER))
    for first in submit(pool, broker, 3, WARM):
        worker.work_on(first)
        worker.work_all()
    firsts = submit(pool, broker, 3, TOGETHER)
    two = {"statements": 2, "round_trips": 2, "commits": 2}  # the one that was held up, and all the others

    with meter.costs() as begun:
        claims = claim_together(pool, worker, firsts)
    assert begun == times(CLAIM, TOGETHER, **two)
    for claim in claims:
        worker.go_on_with(claim)
    end_together(pool, worker)
    with meter.costs() as ended:
        end_together(pool, worker)
    assert ended == times(BY_HAND_OVER, TOGETHER, **two)
    worker.work_all()
    assert count(pool, "completed", [claim.execution_id for claim in claims]) == TOGETHER


def claim_together(pool: Pool, worker: OneWorker, steps: list[ReadyStep]) -> list[Claim]:
    """Each in a thread of its own, which waits for the commit that holds it."""
    gathering, claims = worker.runner._claim, list[Claim | None]()
    threads = [threading.Thread(target=lambda step=step: claims.append(gathering(step))) for step in steps]
    with pool.connection():  # without it nothing can be asked
        for thread in threads:
            thread.start()
        wait_until(lambda: len(gathering._waiting) == len(steps) - 1, 30, "all but the first are gathered")
    for thread in threads:
        thread.join(30)
    return [claim for claim in claims if claim is not None]


def end_together(pool: Pool, worker: OneWorker) -> None:
    """One step of each execution. Whoever comes while a commit is under way leaves its result there and goes on."""
    recorder = worker.runner.recorder
    leader = threading.Thread(target=worker.work_on_next)
    with pool.connection():  # without it nothing can be recorded
        leader.start()
        wait_until(lambda: recorder.pending() == 1, 30, "the first result")
        for _ in range(TOGETHER - 1):
            worker.work_on_next()
        assert recorder.pending() == TOGETHER
    leader.join(30)
    assert recorder.pending() == 0


def test_a_step_that_changes_hands_costs_two_statements_and_three_trips_to_redis(
    pool: Pool, meter: Meter, broker: StepBroker
) -> None:
    """Pushed by the worker that completes the step before, fetched, claimed, completed and acknowledged by another one."""
    worker = OneWorker(pool, broker, None)
    broker.declare_queue(STEP_QUEUE)
    consumer = broker.consume(STEP_QUEUE, prefetch=4, timeout=50)
    submit(pool, broker, WARM + 30)

    def work_on_next() -> None:
        message = next(consumer)
        assert message is not None
        step = step_of(message)
        assert step is not None
        worker.work_on(step)
        consumer.ack(message)

    for _ in range(WARM):
        work_on_next()
    with meter.costs() as one:
        work_on_next()
    with meter.costs() as twenty:
        for _ in range(20):
            work_on_next()
    assert one == ACROSS_WORKERS
    assert twenty == times(ACROSS_WORKERS, 20)


def test_a_priced_step_writes_the_row_of_its_day_beside(pool: Pool, meter: Meter, broker: StepBroker) -> None:
    """In the same statement and commit; the execution's row is as little touched as without a price."""
    worker = OneWorker(pool, broker, WorkQueue(4))
    worker.tools.priced = {"test": {"*": Price(Decimal("0.001"))}}
    (first,) = submit(pool, broker, WARM + 30)
    worker.work_on(first)
    for _ in range(WARM):
        worker.work_on_next()
    with meter.costs() as twenty:
        for _ in range(20):
            worker.work_on_next()
    assert twenty == times(PRICED, 20)


def test_an_engine_of_ones_own_goes_on_as_well(pool: Pool, meter: Meter, settings: Settings) -> None:
    """`afu9 run` claims a sequence once: five steps more are five statements more."""
    engine, costs = WorkflowEngine(FunctionTools(echo=echo), pool=pool, settings=settings), []
    for length in (5, 10):
        with meter.costs() as cost:
            assert engine.execute(sequence(length), {"input": {"n": 1}}).status == "completed"
        costs.append(cost.statements)
    assert costs[1] - costs[0] == 5
