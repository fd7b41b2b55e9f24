"""The broker's promises, on fakeredis and on a real Valkey. They are what must still hold when dramatiq moves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import dramatiq
import fakeredis
import pytest
import redis
from dramatiq import Message

from orchestrator.broker import StepBroker, redis_client
from orchestrator.hints import read_hint
from orchestrator.push import BATCH, STEP_ACTOR, STEP_QUEUE, push_steps, step_message
from persistence.embedded import Endpoints
from persistence.transitions import ReadyStep

QUEUE = "afu9:steps"


@pytest.fixture(params=["fakeredis", "valkey"])
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """The broker's logic runs alike on both."""
    if request.param == "fakeredis":
        yield fakeredis.FakeRedis()
        return
    servers: Endpoints = request.getfixturevalue("servers")
    real = redis_client(servers.redis_url, socket_timeout=15)
    real.flushall()
    yield real
    real.close()


@pytest.fixture
def broker(client: redis.Redis) -> StepBroker:
    return StepBroker("", client=client)


def steps(count: int) -> list[ReadyStep]:
    return [ReadyStep(uuid4(), 0) for _ in range(count)]


def consumer(broker: StepBroker, prefetch: int = 100, timeout: int = 50):  # type: ignore[no-untyped-def]
    broker.declare_queue(STEP_QUEUE)
    return broker.consume(STEP_QUEUE, prefetch=prefetch, timeout=timeout)


def drain(consuming) -> list[str]:  # type: ignore[no-untyped-def]
    """Ids of the messages that come, acknowledged, until none does."""
    seen = []
    while message := next(consuming):
        seen.append(message.message_id)
        consuming.ack(message)
    return seen


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.005)


def test_a_consumer_fetches_what_its_worker_wants(
    broker: StepBroker, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again after the consumer has slept, for what it held then; what is not wanted stays for others."""
    asked: list[int] = []
    answers = [2, 3, 0]

    def wanted(held: int) -> int:
        asked.append(held)
        return answers[len(asked) - 1]

    sleep = broker.wait_for_push

    def pushed_as_it_falls_asleep(queue_name: str, seconds: float) -> None:
        assert push_steps(broker, steps(5)) == 5
        sleep(queue_name, seconds)

    broker.wanted = wanted
    monkeypatch.setattr(broker, "wait_for_push", pushed_as_it_falls_asleep)
    consuming = consumer(broker, timeout=5000)
    held = [next(consuming) for _ in range(3)]
    monkeypatch.undo()
    assert None not in held
    assert asked == [0, 0]
    assert client.llen(QUEUE) == 2
    assert next(consumer(broker)) is None
    assert client.llen(QUEUE) == 2


def test_messages_arrive_in_order_and_leave_nothing_behind(broker: StepBroker, client: redis.Redis) -> None:
    """After the acknowledgement Redis holds neither ids nor bodies."""
    pushed = steps(5)
    assert push_steps(broker, pushed) == 5
    assert drain(consumer(broker)) == [f"{step.step_id}:0" for step in pushed]
    assert client.hlen(f"{QUEUE}.msgs") == 0
    assert not client.exists(broker.acks_key(broker.broker_id, STEP_QUEUE))


def test_a_repeated_push_is_refused(broker: StepBroker, client: redis.Redis) -> None:
    """The id of a message is its attempt: pushing it again while it waits changes nothing."""
    pushed = steps(5)
    push_steps(broker, pushed)
    assert push_steps(broker, pushed) == 0
    assert push_steps(broker, pushed, force=True) == 0
    assert client.llen(QUEUE) == 5


def test_a_forced_push_brings_a_fetched_message_again(broker: StepBroker) -> None:
    """Its consumer may be dead; a step that runs refuses the second message at its claim."""
    pushed = steps(1)
    push_steps(broker, pushed)
    assert next(consumer(broker)) is not None
    assert push_steps(broker, pushed) == 0
    assert push_steps(broker, pushed, force=True) == 1


def test_a_message_pushed_twice_and_settled_is_passed_over(broker: StepBroker) -> None:
    """An id without a body is nobody's fault."""
    pushed = steps(1)
    push_steps(broker, pushed)
    first = consumer(broker)
    message = next(first)
    push_steps(broker, pushed, force=True)
    first.ack(message)
    assert next(first) is None


def test_a_poisoned_message_harms_no_other(broker: StepBroker, client: redis.Redis) -> None:
    """A body that cannot be decoded goes to the dead letters, the batch it came in goes on."""
    before, after = steps(5), steps(5)
    push_steps(broker, before)
    client.hset(f"{QUEUE}.msgs", "poison", b"\xff not json")
    client.rpush(QUEUE, "poison")
    push_steps(broker, after)
    assert len(drain(consumer(broker))) == 10
    assert client.zrange(f"{QUEUE}.XQ", 0, -1) == [b"poison"]
    assert not client.exists(broker.acks_key(broker.broker_id, STEP_QUEUE))


def test_a_dead_consumers_messages_are_given_back(broker: StepBroker, client: redis.Redis) -> None:
    """All that it had fetched and not acknowledged, at once, and its heartbeat is forgotten."""
    dead = StepBroker("", client=client)
    pushed = steps(3)
    push_steps(broker, pushed)
    assert next(consumer(dead)) is not None
    assert client.llen(QUEUE) == 0
    assert broker.give_back(dead.broker_id, STEP_QUEUE) == 3
    assert sorted(drain(consumer(broker))) == sorted(f"{step.step_id}:0" for step in pushed)
    assert client.zscore(broker.heartbeats_key, dead.broker_id) is None


def test_delays_are_refused(broker: StepBroker) -> None:
    """Time is kept in PostgreSQL."""
    with pytest.raises(ValueError, match="next_run_at"):
        broker.enqueue(step_message(steps(1)[0]), delay=1000)


def test_there_is_no_delayed_queue(broker: StepBroker) -> None:
    """It would double the polling and strand messages."""
    broker.declare_queue(STEP_QUEUE)
    assert broker.get_declared_queues() == {STEP_QUEUE}
    assert broker.get_declared_delay_queues() == set()


def test_a_full_consumer_keeps_its_heartbeat(broker: StepBroker, client: redis.Redis) -> None:
    """Else maintenance would take it for dead and give its messages to others."""
    broker.heartbeat_timeout = 0
    push_steps(broker, steps(2))
    full = consumer(broker, prefetch=1)
    assert next(full) is not None
    client.zadd(broker.heartbeats_key, {broker.broker_id: 1})
    assert next(full) is None
    assert client.zscore(broker.heartbeats_key, broker.broker_id) > 1


@pytest.mark.parametrize("kind", [redis.ConnectionError, redis.TimeoutError, redis.exceptions.ReadOnlyError])
def test_a_consumer_outlives_every_redis_error(
    broker: StepBroker, kind: type[redis.RedisError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dramatiq lets its thread die of most of them. What came before the outage can still be settled after it."""

    def broken(*arguments: object, **options: object) -> None:
        raise kind("away")

    consuming = consumer(broker)
    push_steps(broker, steps(2))
    first = next(consuming)
    with monkeypatch.context() as away:
        away.setitem(broker.scripts, "dispatch", broken)
        consuming.ack(first)
        assert next(consuming) is not None  # fetched before
        assert next(consuming) is None
        assert broker.health.away_for() > 0
    assert next(consuming) is None
    assert broker.health.away_for() == 0
    assert [entry.decode() for entry in broker.client.hkeys(f"{QUEUE}.msgs")] != [first.message_id]
    assert broker.client.hlen(f"{QUEUE}.msgs") == 1


def test_nobody_waits_for_a_redis_that_is_away(broker: StepBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """One caller a second tries; the others are refused at once, until one succeeds."""
    calls = []

    def broken(*arguments: object, **options: object) -> None:
        calls.append(1)
        raise redis.TimeoutError("away")

    with monkeypatch.context() as away:
        away.setattr(broker, "_push", broken)
        for _ in range(20):
            assert push_steps(broker, steps(1)) == 0
    assert len(calls) == 1
    broker.health.answered()
    assert push_steps(broker, steps(1)) == 1


def test_messages_handed_back_wake_another_consumer(broker: StepBroker, client: redis.Redis) -> None:
    """And the one that handed them back, draining, takes no more."""
    push_steps(broker, steps(2))
    client.delete(f"{QUEUE}.wake")
    draining = consumer(broker)
    messages = [next(draining), next(draining)]
    broker.draining = True
    draining.requeue(messages)
    assert next(draining) is None
    assert client.llen(QUEUE) == 2
    assert client.llen(f"{QUEUE}.wake") == 2
    for message in messages:
        draining.ack(message)
    assert client.llen(QUEUE) == client.hlen(f"{QUEUE}.msgs") == 2


def test_a_message_from_inside_the_process_is_not_settled_in_redis(broker: StepBroker, client: redis.Redis) -> None:
    """Redis may hold another of the same attempt, for somebody else."""
    (step,) = steps(1)
    push_steps(broker, [step])
    consumer(broker).ack(dramatiq.MessageProxy(step_message(step)))
    assert client.hlen(f"{QUEUE}.msgs") == 1


def test_old_dead_letters_are_forgotten(broker: StepBroker, client: redis.Redis) -> None:
    """After a week, by the clock of Redis."""
    now = client.time()[0] * 1000
    client.zadd(f"{QUEUE}.XQ", {"old": now - 8 * 86_400_000, "new": now - 6 * 86_400_000})
    client.hset(f"{QUEUE}.XQ.msgs", mapping={"old": "{}", "new": "{}"})
    assert broker.forget_dead_letters(STEP_QUEUE) == 1
    assert client.zrange(f"{QUEUE}.XQ", 0, -1) == client.hkeys(f"{QUEUE}.XQ.msgs") == [b"new"]


def test_lost_messages_are_noticed(broker: StepBroker, client: redis.Redis) -> None:
    """By the mark that is gone with them; an outage counts as a loss."""
    assert not broker.kept_its_messages()
    broker.mark()
    assert broker.kept_its_messages()
    client.flushall()
    assert not broker.kept_its_messages()
    broker.mark()
    broker.health.failed(redis.ConnectionError("away"))
    assert not broker.kept_its_messages()


def test_a_push_without_redis_is_no_error() -> None:
    """The row is due; the dispatcher repeats the push."""
    server = fakeredis.FakeServer()
    broker = StepBroker("", client=fakeredis.FakeRedis(server=server))
    server.connected = False
    assert push_steps(broker, steps(3)) == 0


def test_an_idle_worker_starts_a_message_at_once(servers: Endpoints, valkey: redis.Redis) -> None:
    """The wake: no polling interval lies between push and start. (Bounded loosely; benchmarks/ has the figures.)"""
    broker = StepBroker(servers.redis_url)
    started: list[float] = []

    @dramatiq.actor(broker=broker, queue_name=STEP_QUEUE, actor_name=STEP_ACTOR)
    def run_step(step_id: str, attempt: int) -> None:
        started.append(time.monotonic())

    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=5000)
    worker.start()
    try:
        waits = []
        for step in steps(10):
            count = len(started)
            pushed_at = time.monotonic()
            push_steps(broker, [step])
            wait_until(lambda count=count: len(started) > count)  # type: ignore[misc]
            waits.append(started[-1] - pushed_at)
        assert sorted(waits)[5] < 0.2  # polling would sleep up to 5 s here
    finally:
        worker.stop(timeout=1000)
        broker.close()


def test_a_graceful_stop_returns_what_was_not_begun(servers: Endpoints, valkey: redis.Redis) -> None:
    """Prefetched messages go back to the queue, and the running one is finished."""
    broker = StepBroker(servers.redis_url)
    running, release = threading.Event(), threading.Event()

    @dramatiq.actor(broker=broker, queue_name=STEP_QUEUE, actor_name=STEP_ACTOR)
    def run_step(step_id: str, attempt: int) -> None:
        running.set()
        release.wait(10)

    push_steps(broker, steps(2))
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=100)
    worker.start()
    assert running.wait(5)
    wait_until(lambda: valkey.llen(QUEUE) == 0)
    stopping = threading.Thread(target=worker.stop, kwargs={"timeout": 5000})
    stopping.start()
    release.set()
    stopping.join()
    assert valkey.llen(QUEUE) == 1
    broker.close()


def test_a_message_holds_ids_only() -> None:
    """Everything else is a row."""
    step = ReadyStep(uuid4(), 3)
    message: Message[None] = step_message(step)
    assert (message.args, message.kwargs) == ((str(step.step_id), 3), {})
    assert message.message_id == f"{step.step_id}:3"


def test_a_hint_comes_with_the_push_or_alone(client: redis.Redis) -> None:
    """Once per batch, ids only, each once; nothing is published when nothing changed."""
    broker = StepBroker("", client=client, namespace="hinted")
    first, second = uuid4(), uuid4()
    with client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(broker.hints_channel)
        heard.get_message(timeout=5)
        assert push_steps(broker, steps(BATCH + 1), changed=[first, second, first, None]) == BATCH + 1
        push_steps(broker, steps(1))
        push_steps(broker, ())
        push_steps(broker, (), changed=[second])
        hints = [read_hint(message["data"]) for message in iter(lambda: heard.get_message(timeout=0.5), None)]
    assert hints == [[first, second], [second]]


def test_a_hint_alone_does_not_wait_for_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither fails its caller nor is it the one that tries whether Redis is back."""
    broker = StepBroker("redis://127.0.0.1:1/0")
    push_steps(broker, (), changed=[uuid4()])
    assert broker.health.outages == 1
    monkeypatch.setattr(broker.client, "publish", lambda *_: pytest.fail("it was asked"))
    push_steps(broker, (), changed=[uuid4()])
    assert broker.health.worth_trying() is False
    broker.close()


@pytest.mark.parametrize("hint", [b"", b"x", b"{}", b"3", b'["x"]', b"[null]", b"[[]]", b"\xff"])
def test_what_is_no_hint_is_told_apart(hint: bytes) -> None:
    """Anybody may publish anything."""
    with pytest.raises(ValueError):  # noqa: PT011  # its kinds have different words
        read_hint(hint)
