"""The Dramatiq broker for step messages: Redis as a doorbell.

Against the stock RedisBroker it
- pushes batches in one round trip, each message id once (push.lua);
- wakes an idle consumer by a blocking pop, within a millisecond or two, instead of polling for up to half a second;
- has no delayed queue: time is kept in PostgreSQL, and a delay given to it is refused;
- puts a message that cannot be decoded aside instead of losing the batch it came in;
- keeps its heartbeat while it is full, so that nobody takes its messages away;
- treats every Redis error as a lost connection, after which the consumer starts anew.

It leans on private names of dramatiq 2.2 (`_RedisConsumer`, `message_cache`, `queued_message_ids`); the tests under
tests/integration/test_broker.py say which behaviour must hold when that version moves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import redis
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.common import current_millis
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Middleware
from redis.backoff import NoBackoff
from redis.retry import Retry

Result = TypeVar("Result")
HERE = Path(__file__).parent


def redis_client(url: str, *, socket_timeout: float = 3.0, connections: int = 64) -> redis.Redis:
    """A client that says at once when Redis is away: no silent retries, which would push twice."""
    client: redis.Redis = redis.Redis.from_url(
        url,
        socket_timeout=socket_timeout,
        socket_connect_timeout=2.0,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=30,
        max_connections=connections,
    )
    return client


class StepConsumer(_RedisConsumer):
    """Fetches as many messages as there is room for, and sleeps in Redis when there are none."""

    broker: StepBroker

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)  # type: ignore[no-untyped-call]  # dramatiq's brokers are untyped
        self._room = threading.Event()
        self._heartbeat_at = 0.0

    def __next__(self) -> MessageProxy | None:
        if message := self._next_cached():
            return message
        free = self.prefetch - self.outstanding_message_count
        if free <= 0:
            self._wait_for_room()
            return None
        self._heartbeat_at = time.monotonic()  # every command of the broker is one
        self.message_cache = self._io(self.broker.do_fetch, self.queue_name, free)
        if not self.message_cache:
            self._io(self.broker.wait_for_push, self.queue_name, self.timeout / 1000)
            self.message_cache = self._io(self.broker.do_fetch, self.queue_name, free)
        return self._next_cached()

    def ack(self, message: MessageProxy) -> None:
        self._settle(self.broker.do_ack, message)

    def nack(self, message: MessageProxy) -> None:
        self._settle(self.broker.do_nack, message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        self._io(super().requeue, messages)

    def _settle(self, command: Callable[..., Any], message: MessageProxy) -> None:
        try:
            self._io(command, self.queue_name, message.options["redis_message_id"])
        finally:
            self.queued_message_ids.discard(message.message_id)
            self._room.set()

    def _next_cached(self) -> MessageProxy | None:
        while self.message_cache:
            body = self.message_cache.pop(0)
            if body is None:  # pushed twice, and settled by whoever came first
                continue
            try:
                message = Message.decode(body)
            except Exception as error:  # whatever a foreign body makes the decoder raise
                self.logger.error(
                    "queue %s: an unreadable message goes to the dead letters: %s", self.queue_name, error
                )
                self._io(self._put_aside, body)
                continue
            self.queued_message_ids.add(message.message_id)
            return MessageProxy(message)
        return None

    def _put_aside(self, body: bytes) -> None:
        acks = self.broker.acks_key(self.broker.broker_id, self.queue_name)
        messages = self.broker.key(self.queue_name, ".msgs")
        for message_id in self.broker.client.smembers(acks):
            if self.broker.client.hget(messages, message_id) == body:
                self.broker.do_nack(self.queue_name, message_id)

    def _wait_for_room(self) -> None:
        if time.monotonic() - self._heartbeat_at > self.broker.heartbeat_timeout / 4000:
            self._heartbeat_at = time.monotonic()
            self._io(self.broker.client.zadd, self.broker.heartbeats_key, {self.broker.broker_id: current_millis()})
        self._room.wait(self.timeout / 1000)
        self._room.clear()

    def _io(self, command: Callable[..., Result], *arguments: Any) -> Result:
        try:
            return command(*arguments)
        except redis.RedisError as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]  # as above


class StepBroker(RedisBroker):
    """See the module. `url` names a Redis or Valkey (redis://, rediss://, unix://); `client` replaces it in tests."""

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "afu9",
        middleware: Sequence[Middleware] = (),
        connections: int = 64,
        client: redis.Redis | None = None,
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # dramatiq's brokers are untyped
            client=client or redis_client(url, connections=connections),
            middleware=list(middleware),
            namespace=namespace,
            maintenance_chance=50_000,
            dead_message_ttl=7 * 86_400_000,
        )
        self._wake = client or redis_client(url, socket_timeout=15.0)
        self._push = self.client.register_script((HERE / "push.lua").read_text())
        self._give_back = self.client.register_script((HERE / "give_back.lua").read_text())

    @property
    def consumer_class(self) -> type[StepConsumer]:
        return StepConsumer

    @property
    def heartbeats_key(self) -> str:
        return f"{self.namespace}:__heartbeats__"

    def key(self, queue_name: str, suffix: str = "") -> str:
        return f"{self.namespace}:{queue_name}{suffix}"

    def acks_key(self, broker_id: str, queue_name: str) -> str:
        return f"{self.namespace}:__acks__.{broker_id}.{queue_name}"

    def declare_queue(self, queue_name: str) -> None:
        """Declares the queue, without a delayed twin."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Pushes one message. Raises ValueError for a delay: time is kept in PostgreSQL."""
        if delay is not None:
            _refuse_delay()
        self.enqueue_many([message])
        return message

    def enqueue_many(self, messages: Sequence[Message[Any]], *, force: bool = False) -> int:
        """Pushes messages of one queue in one round trip; how many were new. `force` pushes an id again whose message
        is known but in no list (push.lua). Raises redis.RedisError."""
        if not messages:
            return 0
        queue_name = messages[0].queue_name
        pairs: list[str | bytes] = []
        for message in messages:
            self.emit_before("enqueue", message, None)
            body = message.copy(options={"redis_message_id": message.message_id})
            pairs += (message.message_id, body.encode())
        keys = [self.key(queue_name), self.key(queue_name, ".msgs"), self.key(queue_name, ".wake")]
        pushed = int(self._push(keys=keys, args=[int(force), *pairs]))
        for message in messages:
            self.emit_after("enqueue", message, None)
        return pushed

    def give_back(self, broker_id: str, queue_name: str) -> int:
        """Returns the messages that a dead consumer had fetched to their queue; how many."""
        keys = [
            self.acks_key(broker_id, queue_name),
            self.key(queue_name),
            self.key(queue_name, ".msgs"),
            self.key(queue_name, ".wake"),
            self.heartbeats_key,
        ]
        return int(self._give_back(keys=keys, args=[broker_id]))

    def wait_for_push(self, queue_name: str, seconds: float) -> None:
        """Sleeps until somebody pushes, at most `seconds`."""
        self._wake.blpop([self.key(queue_name, ".wake")], timeout=seconds)

    def close(self) -> None:
        self.client.close()
        self._wake.close()
        super().close()


def _refuse_delay() -> NoReturn:
    raise ValueError("step messages have no delay: set next_run_at and dispatch_after of the step's row instead")
