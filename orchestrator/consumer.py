"""The Dramatiq consumer of step messages. Against the stock one it

- wakes by a blocking pop, within a millisecond or two, instead of polling for up to half a second;
- puts a message that cannot be decoded aside instead of losing the batch it came in;
- keeps its heartbeat while it is full, so that nobody takes its messages away;
- outlives every Redis error: it waits a moment and goes on, and settles late what it could not settle in time, so that no
  worker thread ever waits for Redis;
- fetches nothing while the process drains.

It leans on private names of dramatiq 2.2 (`_RedisConsumer`, `message_cache`, `queued_message_ids`); the tests under
tests/integration/test_broker.py say which behaviour must hold when that version moves.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import redis
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import _RedisConsumer
from dramatiq.common import current_millis

if TYPE_CHECKING:
    from orchestrator.broker import StepBroker

AWAY = 0.25  # seconds between looks while Redis does not answer
LATE = 10_000  # messages settled late at most; a forgotten one comes again, and its claim finds nothing


class StepConsumer(_RedisConsumer):
    """Fetches as many messages as there is room for, and sleeps in Redis when there are none."""

    broker: StepBroker

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)  # type: ignore[no-untyped-call]  # dramatiq's brokers are untyped
        self._room = threading.Event()
        self._heartbeat_at = 0.0
        self._unsettled: deque[tuple[str, str]] = deque(maxlen=LATE)

    def __next__(self) -> MessageProxy | None:
        try:
            if message := self._next_cached():
                return message
            free = 0 if self.broker.draining else self.prefetch - self.outstanding_message_count
            if free <= 0:
                self._wait_for_room()
                return None
            self._fetch(free)
            if not self.message_cache:
                self.broker.wait_for_push(self.queue_name, self.timeout / 1000)
                if not self.broker.draining:
                    self._fetch(free)
            return self._next_cached()
        except redis.RedisError as error:
            self.broker.health.failed(error)
            time.sleep(AWAY)
            return None

    def ack(self, message: MessageProxy) -> None:
        self._settle("ack", message)

    def nack(self, message: MessageProxy) -> None:
        self._settle("nack", message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        self.broker.hand_back(self.queue_name, messages)

    def _fetch(self, free: int) -> None:
        self._heartbeat_at = time.monotonic()  # every command of the broker is one
        self.message_cache = self.broker.do_fetch(self.queue_name, free)
        self.broker.health.answered()
        while self._unsettled:
            self._tell(*self._unsettled[0])
            self._unsettled.popleft()

    def _settle(self, verb: str, message: MessageProxy) -> None:
        """Tells Redis that the message is done, now or when it answers again."""
        self.queued_message_ids.discard(message.message_id)
        self._room.set()
        message_id = message.options.get("redis_message_id")
        if message_id is None:  # delivered inside the process: Redis does not know it
            return
        if self.broker.health.away_for():
            self._unsettled.append((verb, message_id))
            return
        try:
            self._tell(verb, message_id)
        except redis.RedisError as error:
            self.broker.health.failed(error)
            self._unsettled.append((verb, message_id))

    def _tell(self, verb: str, message_id: str) -> None:
        (self.broker.do_ack if verb == "ack" else self.broker.do_nack)(self.queue_name, message_id)

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
                self._put_aside(body)
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
            self.broker.client.zadd(self.broker.heartbeats_key, {self.broker.broker_id: current_millis()})
            self.broker.health.answered()
        self._room.wait(self.timeout / 1000)
        self._room.clear()
