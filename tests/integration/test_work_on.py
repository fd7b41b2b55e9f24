"""A worker's threads, which are the test's here: what they go on with by themselves, and what they leave to others."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import dramatiq
import pytest
from dramatiq.broker import MessageProxy
from dramatiq.worker import _WorkQueueItem

from orchestrator.broker import StepBroker
from orchestrator.outcome import Failed
from orchestrator.push import STEP_QUEUE, push_steps, step_message, step_of
from orchestrator.submit import Request, Submitter
from persistence.executions import get_execution_steps
from persistence.pool import Pool
from persistence.settings import Settings
from persistence.transitions import ReadyStep
from tests.fleet import count
from tests.integration.test_transitions import WORKER, make_due, renew, step_row, take
from tests.integration.test_transitions_guards import rest
from tests.workflows import FunctionTools, assert_invariants_at_rest, echo, sequence
from workers import run_step, work_queue
from workers.drain import drain
from workers.in_flight import InFlight
from workers.run_step import AttemptFailed, StepRunner
from workers.work_queue import WorkQueue


class Hands:
    """Works on one thing at a time, when it is told to. `during` is called by every tool."""

    def __init__(self, pool: Pool, broker: StepBroker, slots: int = 4):
        self.pool, self.queue, self.in_flight = pool, WorkQueue(slots), InFlight()
        self.tools = FunctionTools(echo=self._call)
        self.during: Any = echo
        self.runner = StepRunner(pool, broker, self.tools, WORKER, self.in_flight, self.queue)
        self.begun: list[UUID] = []
        renew(pool, WORKER)

    def _call(self, **arguments: Any) -> Any:
        return self.during(**arguments)

    def fetch(self, step: ReadyStep) -> None:
        """As a consumer does."""
        self.queue.put(_WorkQueueItem(0, MessageProxy(step_message(step))))

    def work(self) -> None:
        """On what is there, until nothing is."""
        while not self.queue.empty():
            step = step_of(self.queue.get().message)
            assert step is not None
            assert self.in_flight.begin(step)
            try:
                self.runner.work_on(step)
            except AttemptFailed as failed:
                self.runner.recorder.advance(failed.attempt)
            self.in_flight.end(step)
            self.queue.task_done()
            self.begun.append(step.step_id)


@pytest.fixture
def broker(settings: Settings) -> Iterator[StepBroker]:
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    yield broker
    broker.close()


@pytest.fixture
def hands(pool: Pool, broker: StepBroker) -> Hands:
    return Hands(pool, broker)


def submit(pool: Pool, steps: int, **options: Any) -> tuple[UUID, ReadyStep]:
    (submitted,) = Submitter(pool, None).submit(sequence(steps, **options), [Request(input={"n": 1})])
    return submitted.execution_id, submitted.ready[0]


def pushed(broker: StepBroker) -> list[str]:
    """The ids of the messages that wait in Redis."""
    ids: Any = broker.client.lrange(broker.key(STEP_QUEUE), 0, -1)
    return [one.decode() for one in ids]


def test_a_worker_goes_on_with_a_sequence_to_its_end(pool: Pool, broker: StepBroker, hands: Hands) -> None:
    """Without a message of it."""
    execution_id, first = submit(pool, 5)
    hands.fetch(first)
    hands.work()
    assert hands.begun == [step["id"] for step in get_execution_steps(pool, execution_id)]
    assert pushed(broker) == []
    assert count(pool, "completed", [execution_id]) == 1
    assert_invariants_at_rest(pool, execution_id)


def test_a_long_sequence_makes_room_for_what_waits(
    pool: Pool, broker: StepBroker, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many steps it takes its turn again, behind all others, wherever they run."""
    monkeypatch.setattr(work_queue, "MOST", 3)
    long, first = submit(pool, 10)
    short, second = submit(pool, 2)
    hands.fetch(first)
    hands.fetch(second)
    hands.work()
    steps = [step["id"] for step in get_execution_steps(pool, long)]
    assert hands.begun == steps[:3] + [step["id"] for step in get_execution_steps(pool, short)]
    assert pushed(broker) == [f"{steps[3]}:0"]
    hands.fetch(ReadyStep(steps[3], 0))  # and as nobody else waits now, it goes on to its end
    hands.work()
    assert hands.begun[-7:] == steps[3:]


def test_the_time_of_a_long_sequence_is_counted_from_its_message(
    pool: Pool, broker: StepBroker, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from each of its steps."""
    monkeypatch.setattr(work_queue, "LONGEST", 3600.0)
    now = [0.0]
    for module in (work_queue, run_step):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def slow(**arguments: Any) -> Any:
        now[0] += 1500
        return echo(**arguments)

    hands.during = slow
    long, first = submit(pool, 10, timeoutMs=10_000_000)
    hands.fetch(first)
    hands.fetch(submit(pool, 1)[1])
    hands.work()
    assert hands.begun[:4] == [step["id"] for step in get_execution_steps(pool, long)][:4]
    assert len(hands.begun) == 5


def test_a_paused_execution_is_not_gone_on_with(pool: Pool, broker: StepBroker, hands: Hands) -> None:
    """The call that runs is recorded; what follows it waits for the resume."""
    execution_id, first = submit(pool, 3)

    def pause(**arguments: Any) -> Any:
        rest(pool, execution_id, "paused")
        return echo(**arguments)

    hands.during = pause
    hands.fetch(first)
    hands.work()
    assert [step["status"] for step in get_execution_steps(pool, execution_id)] == ["completed", "pending", "pending"]
    assert pushed(broker) == []


def test_a_failure_of_a_step_that_was_handed_over_is_charged(pool: Pool, broker: StepBroker, hands: Hands) -> None:
    """And its next attempt is for whoever comes."""
    execution_id, first = submit(pool, 3, retry={"maxAttempts": 2})
    failing = [False, True, False, False]

    def tool(**arguments: Any) -> Any:
        return Failed("tool_error", "no", "definite") if failing.pop(0) else echo(**arguments)

    hands.during = tool
    hands.fetch(first)
    hands.work()
    second = step_row(pool, execution_id, 1)
    assert (second["status"], second["attempt"], second["retry_count"]) == ("pending", 1, 1)
    assert hands.in_flight.take_all_handed() == []
    make_due(pool, execution_id)
    hands.fetch(ReadyStep(second["id"], 1))
    hands.work()
    assert count(pool, "completed", [execution_id]) == 1
    assert_invariants_at_rest(pool, execution_id)


# ------------------------------------------------------------------------------------------------------------ shutdown


def test_a_worker_that_stops_goes_on_with_nothing(pool: Pool, broker: StepBroker, hands: Hands) -> None:
    """The call that runs is recorded, and what follows is for the others."""
    execution_id, first = submit(pool, 3)

    def stop(**arguments: Any) -> Any:
        hands.in_flight.close()
        return echo(**arguments)

    hands.during = stop
    hands.fetch(first)
    hands.work()
    rows = get_execution_steps(pool, execution_id)
    assert [(step["status"], step["attempt"]) for step in rows] == [("completed", 1), ("pending", 0), ("pending", 0)]
    assert pushed(broker) == [f"{rows[1]['id']}:0"]


@pytest.mark.parametrize("begun", [True, False])
def test_what_was_handed_over_to_a_worker_that_stops_is_handed_back(
    pool: Pool, broker: StepBroker, hands: Hands, begun: bool
) -> None:
    """Uncharged and at once, by the thread that would begin it or by the shutdown; its tool is not called."""
    execution_id, first = submit(pool, 2)
    with hands.in_flight.only(first):
        hands.runner.work_on(first)
    hands.in_flight.close()
    assert step_row(pool, execution_id, 1)["status"] == "running"
    if begun:
        hands.work()
    hands.runner.release_handed()
    hands.runner.release_handed()
    second = step_row(pool, execution_id, 1)
    assert (second["status"], second["attempt"], second["released_count"]) == ("pending", 1, 1)
    assert (second["retry_count"], hands.tools.calls["echo"]) == (0, 1)
    assert pushed(broker) == [f"{second['id']}:1"]

    other = Hands(pool, broker)
    other.fetch(ReadyStep(second["id"], 1))
    other.work()
    assert count(pool, "completed", [execution_id]) == 1
    assert_invariants_at_rest(pool, execution_id)


def test_a_stop_during_a_commit_hands_its_successor_back(pool: Pool, broker: StepBroker, hands: Hands) -> None:
    """The thread that asked for it finds that nobody will begin it."""
    execution_id, first = submit(pool, 1)
    go_on = hands.runner._successor(None)
    assert go_on is not None
    claim = take(pool, first)
    hands.in_flight.close()
    go_on(claim)
    row = step_row(pool, execution_id)
    assert (row["status"], row["released_count"], row["retry_count"]) == ("pending", 1, 0)
    assert pushed(broker) == [f"{first.step_id}:1"]
    assert (hands.queue.empty(), hands.in_flight.take_all_handed()) == (True, [])


def test_a_drained_worker_holds_nothing(pool: Pool, broker: StepBroker, hands: Hands) -> None:
    """What it has claimed is handed back in PostgreSQL, what it has only read in Redis."""
    execution_id, first = submit(pool, 2)
    with hands.in_flight.only(first):
        hands.runner.work_on(first)
    push_steps(broker, [submit(pool, 1)[1]])
    worker = dramatiq.Worker(broker, worker_threads=1)
    worker.work_queue = hands.queue  # type: ignore[assignment]
    broker.declare_queue(STEP_QUEUE)
    message = next(broker.consume(STEP_QUEUE, prefetch=1, timeout=50))
    assert message is not None
    hands.queue.put(_WorkQueueItem(0, message))
    drain(worker, broker, hands.runner, 5)
    second = step_row(pool, execution_id, 1)
    assert (second["status"], second["released_count"], second["retry_count"]) == ("pending", 1, 0)
    assert sorted(pushed(broker)) == sorted([message.message_id, f"{second['id']}:1"])
    assert hands.queue.empty()
