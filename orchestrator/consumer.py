"""The Dramatiq consumer of step messages. Against the stock one it

- wakes by a blocking pop, within a millisecond or two, instead of polling for up to half a second;
- puts a message that cannot be decoded aside instead of losing the batch it came in;
- fetches and settles several messages at a time;
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
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import _RedisConsumer
from dramatiq.common import current_millis

if TYPE_CHECKING:
    from orchestrator.broker import StepBroker

AWAY = 0.25  # seconds between looks while Redis does not answer
TOGETHER = 16  # messages settled in one round trip
LATE = 10_000  # messages settled late at most; a forgotten one comes again, and its claim finds nothing


class StepConsumer(_RedisConsumer):
    """Fetches as many messages as there is room for, and sleeps in Redis when there are none."""

    broker: StepBroker

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)  # type: ignore[no-untyped-call]  # dramatiq's brokers are untyped
        self._room = threading.Event()
        self._enough = max(self.prefetch // 4, 1)  # messages that are worth a fetch
        self._heartbeat_at = 0.0
        self._unsettled: deque[tuple[str, str]] = deque(maxlen=LATE)
        self.broker.consuming.append(self)

    def __next__(self) -> MessageProxy | None:
        try:
            if message := self._next_cached():
                return message
            free = self._free()
            if not free:
                self._settle_all()
                self._wait_for_room()
                return None
            self._fetch(free)
            if not self.message_cache:
                self.broker.wait_for_push(self.queue_name, self.timeout / 1000)
                if free := self._free():
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

    def look(self) -> None:
        """There may be room for more."""
        if not self._room.is_set():
            self._room.set()

    def close(self) -> None:
        if self in self.broker.consuming:
            self.broker.consuming.remove(self)
        with suppress(redis.RedisError):
            self._settle_all()
        super().close()

    def _free(self) -> int:
        """How many messages to fetch now; none if so few would not be worth it."""
        if self.broker.draining:
            return 0
        if self.broker.wanted is not None:
            return self.broker.wanted(self.outstanding_message_count)
        free = self.prefetch - self.outstanding_message_count
        return free if free >= self._enough else 0

    def _fetch(self, free: int) -> None:
        self._heartbeat_at = time.monotonic()  # every command of the broker is one
        self.message_cache = self.broker.do_fetch(self.queue_name, free)
        self.broker.health.answered()
        self._settle_all()

    def _settle(self, verb: str, message: MessageProxy) -> None:
        """Tells Redis that the message is done: together with others, while others are on their way, or when it answers
        again."""
        message_id = message.options.get("redis_message_id")
        if message_id is None:  # delivered inside the process: Redis does not know it
            return
        self.queued_message_ids.discard(message.message_id)
        self._unsettled.append((verb, message_id))
        if self.prefetch - len(self.queued_message_ids) >= self._enough:
            self.look()
        if (not self.queued_message_ids or len(self._unsettled) >= TOGETHER) and not self.broker.health.away_for():
            try:
                self._settle_all()
            except redis.RedisError as error:
                self.broker.health.failed(error)

    def _settle_all(self) -> None:
        """What is settled already, in one round trip. Raises redis.RedisError, and keeps what Redis was not told."""
        batch: list[tuple[str, str]] = []
        with suppress(IndexError):
            while len(batch) < LATE:
                batch.append(self._unsettled.popleft())
        try:
            if done := [message_id for verb, message_id in batch if verb == "ack"]:
                self.broker.acknowledge(self.queue_name, done)
            for verb, message_id in batch:
                if verb == "nack":
                    self.broker.do_nack(self.queue_name, message_id)
        except redis.RedisError:
            self._unsettled.extend(batch)
            raise

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
