"""The recovery loops, called directly: what they push, charge and give back, against real rows and a real queue."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest
import redis

from orchestrator.broker import StepBroker
from orchestrator.push import BATCH, STEP_QUEUE, push_steps
from orchestrator.recover import Recovery, dispatch, reap
from orchestrator.submit import Request, Submitter
from persistence.executions import get_execution
from persistence.pool import Pool, run
from persistence.settings import Settings
from persistence.transitions import ReadyStep
from tests.fleet import wait_until
from tests.integration.test_transitions import WORKER, charge, make_due, silence, start, step_row, take
from tests.workflows import sequence


@pytest.fixture
def broker(settings: Settings) -> Iterator[StepBroker]:
    opened = StepBroker(settings.redis_url, namespace=settings.namespace)
    yield opened
    opened.close()


def waiting(broker: StepBroker) -> list[str]:
    """The ids of the messages in the queue, in order."""
    return [entry.decode() for entry in broker.client.lrange(broker.key(STEP_QUEUE), 0, -1)]


def fetch(broker: StepBroker) -> None:
    """Takes one message away and never settles it, as a consumer that dies does."""
    broker.declare_queue(STEP_QUEUE)
    assert next(broker.consume(STEP_QUEUE, prefetch=1, timeout=50)) is not None


def test_the_dispatcher_pushes_what_is_due_and_says_when_to_come_again(pool: Pool, broker: StepBroker) -> None:
    """At the next due time, or at the longest pause where that is later or nothing waits."""
    assert dispatch(pool, broker, 1.5) == 1.5
    execution_id, ready = start(pool, 1)
    assert dispatch(pool, broker, 60) == pytest.approx(10, abs=2)
    assert waiting(broker) == []
    make_due(pool, execution_id)
    assert dispatch(pool, broker, 1.5) == 1.5
    assert waiting(broker) == [f"{ready.step_id}:0"]


def test_the_dispatcher_doubts_a_message_that_nobody_took(pool: Pool, broker: StepBroker) -> None:
    """Its first push is refused while Redis knows the id, its second one puts the id into the queue again."""
    execution_id, ready = start(pool, 1)
    push_steps(broker, [ready])
    fetch(broker)
    make_due(pool, execution_id)
    dispatch(pool, broker)
    assert waiting(broker) == []
    make_due(pool, execution_id)
    dispatch(pool, broker)
    assert waiting(broker) == [f"{ready.step_id}:0"]


def test_the_dispatcher_goes_on_until_nothing_is_due(
    pool: Pool, broker: StepBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog larger than its batch leaves in one go."""
    monkeypatch.setattr("orchestrator.recover.BATCH", 2)
    for _ in range(5):
        make_due(pool, start(pool, 1)[0])
    dispatch(pool, broker)
    assert len(waiting(broker)) == 5


def test_a_push_larger_than_its_batch_is_whole(broker: StepBroker) -> None:
    """Every step of a large submission is rung for."""
    assert push_steps(broker, (ReadyStep(uuid4(), 0) for _ in range(2 * BATCH + 1))) == 2 * BATCH + 1
    assert len(waiting(broker)) == 2 * BATCH + 1


def test_the_reaper_charges_and_rings_at_once(pool: Pool, broker: StepBroker) -> None:
    """A lost step is in the queue again, at the attempt its claim must find."""
    execution_id, ready = start(pool, 1)
    take(pool, ready)
    silence(pool, WORKER)
    assert reap(pool, broker, 30, 3) == 1
    assert waiting(broker) == [f"{ready.step_id}:1"]
    assert step_row(pool, execution_id)["lost_count"] == 1
    assert reap(pool, broker, 30, 3) == 0


def test_the_reaper_counts_losses_against_its_setting(pool: Pool, broker: StepBroker) -> None:
    """AFU9_MAX_LOST of one: the first loss ends the step."""
    execution_id, ready = start(pool, 1)
    take(pool, ready)
    silence(pool, WORKER)
    reap(pool, broker, 30, 1)
    assert step_row(pool, execution_id)["status"] == "failed"
    assert waiting(broker) == []


def test_the_reaper_ends_executions_past_their_time(pool: Pool, broker: StepBroker) -> None:
    """config.timeoutMs needs no worker."""
    execution_id, _ = start(pool, 1, config={"timeoutMs": 1000})
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_executions SET deadline_at = now() - interval '1 s'")
    reap(pool, broker, 30, 3)
    execution = get_execution(pool, execution_id)
    assert execution is not None
    assert execution["status"] == "failed"


def test_a_dead_workers_unread_messages_go_back(pool: Pool, broker: StepBroker) -> None:
    """Once its lease has run out; a message that was settled meanwhile does not come again."""
    _, unread = start(pool, 1)
    settled = ReadyStep(uuid4(), 0)
    broker.broker_id = str(WORKER)
    push_steps(broker, [unread])
    fetch(broker)
    broker.client.sadd(broker.acks_key(str(WORKER), STEP_QUEUE), f"{settled.step_id}:0")
    silence(pool, WORKER)
    reap(pool, broker, 30, 3)
    assert waiting(broker) == [f"{unread.step_id}:0"]
    assert not broker.client.exists(broker.acks_key(str(WORKER), STEP_QUEUE))
    assert run(pool, "bury_workers", {"silence": 30}) == []


def test_a_consumer_without_a_lease_is_dead(pool: Pool, broker: StepBroker) -> None:
    """Also one that was buried while Redis was away. One with a lease keeps its messages, whatever the clocks say."""
    _, first = start(pool, 1)
    _, second = start(pool, 1)
    for worker, ready in ((uuid4(), first), (WORKER, second)):
        broker.broker_id = str(worker)
        push_steps(broker, [ready])
        fetch(broker)
        broker.client.zadd(broker.heartbeats_key, {str(worker): 1})
    reap(pool, broker, 30, 3)
    assert waiting(broker) == [f"{first.step_id}:0"]
    assert broker.consumers_known() == {str(WORKER)}


def test_a_redis_that_lost_its_messages_is_told_all_of_them(pool: Pool, broker: StepBroker) -> None:
    """At the dispatcher's next look: also those whose next push was minutes away."""
    execution_id, ready = start(pool, 1)
    for _ in range(4):
        make_due(pool, execution_id)
        dispatch(pool, broker)
    assert waiting(broker) == [f"{ready.step_id}:0"]
    dispatch(pool, broker)
    broker.client.flushall()
    dispatch(pool, broker)
    assert waiting(broker) == [f"{ready.step_id}:0"]


def test_an_outage_ends_with_a_push_of_all_that_waits(pool: Pool, broker: StepBroker) -> None:
    """What became ready meanwhile was pushed in vain."""
    dispatch(pool, broker)
    _, ready = start(pool, 1)
    broker.health.failed(redis.ConnectionError("away"))
    assert push_steps(broker, [ready]) == 0
    dispatch(pool, broker)
    assert waiting(broker) == [f"{ready.step_id}:0"]


def test_steps_taken_directly_are_taken_once_and_due_again(pool: Pool) -> None:
    """What nobody has pushed yet and what is due; not what waits for its retry or was taken a moment ago."""
    _, fresh = start(pool, 1)
    _, retried = start(pool, 1)
    charge(pool, take(pool, retried), delay_ms=60_000)
    assert [row["step_id"] for row in run(pool, "take_steps", {"limit": 10})] == [fresh.step_id]
    assert run(pool, "take_steps", {"limit": 10}) == []
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_steps SET dispatch_after = now() WHERE id = %s", (fresh.step_id,))
    assert [row["step_id"] for row in run(pool, "take_steps", {"limit": 10})] == [fresh.step_id]


def test_a_ring_for_all_leaves_retries_their_delay(pool: Pool) -> None:
    """A delay is a promise to a server."""
    _, ready = start(pool, 1)
    charge(pool, take(pool, ready), delay_ms=60_000)
    assert run(pool, "redispatch_steps", {"limit": 10})[0]["count"] == 0


def test_the_wake_list_stays_short(broker: StepBroker) -> None:
    """Nobody may be listening for a long time."""
    for _ in range(30):
        push_steps(broker, [ReadyStep(uuid4(), 0)])
    assert broker.client.llen(broker.key(STEP_QUEUE, ".wake")) == 16


def test_the_loops_outlive_a_fault(
    pool: Pool,
    broker: StepBroker,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever one round meets, the next one comes: a loop that ended would be a silent stop."""
    rounds = threading.Semaphore(0)

    def meets(*_: object) -> float:
        rounds.release()
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("orchestrator.recover.dispatch", meets)
    recovery = Recovery(pool, broker, settings)
    recovery.start()
    try:
        with caplog.at_level(logging.ERROR):
            assert rounds.acquire(timeout=10)
            assert rounds.acquire(timeout=10)
        assert "dispatcher: unexpected fault, going on" in caplog.messages
    finally:
        recovery.stop()


def test_both_loops_run_and_stop(pool: Pool, broker: StepBroker, settings: Settings) -> None:
    """Started, they move what is due and what is lost; stopped, their threads have ended."""
    execution_id, ready = start(pool, 1)
    take(pool, ready)
    silence(pool, WORKER)
    (queued,) = Submitter(pool, None).submit(sequence(1), [Request()])
    make_due(pool, queued.execution_id)
    recovery = Recovery(pool, broker, settings)
    recovery.start()
    try:
        expected = {f"{ready.step_id}:1", f"{queued.ready[0].step_id}:0"}
        wait_until(lambda: set(waiting(broker)) == expected, 10, "the recovery of both steps")
    finally:
        recovery.stop()
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"dispatcher", "reaper"}
    assert step_row(pool, execution_id)["status"] == "pending"


def test_redis_away_stops_no_recovery(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    """Rows are charged and workers buried all the same, with a warning."""
    execution_id, ready = start(pool, 1)
    take(pool, ready)
    silence(pool, WORKER)
    nowhere = StepBroker("", client=redis.Redis(host="127.0.0.1", port=1))
    with caplog.at_level(logging.WARNING):
        assert reap(pool, nowhere, 30, 3) == 1
    assert step_row(pool, execution_id)["status"] == "pending"
    assert run(pool, "list_workers") == []
    assert any("it does not answer" in message for message in caplog.messages)
