"""The Dramatiq broker for step messages: Redis as a doorbell. Against the stock RedisBroker it

- pushes batches in one round trip, each message id once, with a hint for watchers (push.lua);
- has no delayed queue: time is kept in PostgreSQL, and a delay given to it is refused;
- judges nobody dead by a client's clock: the stock broker's maintenance is off, and the reaper, which knows from the leases
  who is dead, gives unread messages back and empties old dead letters;
- asks only those middlewares about a signal that handle it;
- refuses at once while Redis is known to be away (redis_health.py), instead of making each caller wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast
from uuid import UUID

import redis
from dramatiq import Message, get_encoder
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware, MiddlewareError
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.consumer import StepConsumer
from orchestrator.hints import Teller, write_hint
from orchestrator.metrics import HINTS_PUBLISHED
from orchestrator.redis_health import RedisHealth

HERE = Path(__file__).parent
DEAD_LETTERS_KEPT = 7 * 86_400_000  # milliseconds


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
        self.url = url
        self._handlers: dict[str, list[Callable[..., None]]] = {}
        super().__init__(  # type: ignore[no-untyped-call]  # dramatiq's brokers are untyped
            client=client or redis_client(url, connections=connections),
            middleware=list(middleware),
            namespace=namespace,
            maintenance_chance=0,
        )
        self.health = RedisHealth()
        self._outages_marked = 0
        self.teller: Teller | None = None  # of a worker: it publishes hints of its own
        self.load: Callable[[], int] = lambda: 0  # of a worker: how many steps it has in hand
        self.wanted: Callable[[int], int] | None = None  # of a worker: how many more messages, if it holds so many
        self.consuming: list[StepConsumer] = []
        self.draining = False  # set by a worker that stops: its consumers then fetch no more
        self._wake = client or redis_client(url, socket_timeout=5.0)
        self._push = self.client.register_script((HERE / "push.lua").read_text())
        self._acknowledge = self.client.register_script((HERE / "acknowledge.lua").read_text())
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

    @property
    def hints_channel(self) -> str:
        return f"{self.namespace}:hints"

    def add_middleware(self, middleware: Middleware, **place: Any) -> None:
        super().add_middleware(middleware, **place)
        self._handlers.clear()

    def emit_before(self, signal: str, *arguments: Any, **options: Any) -> None:
        """As the stock broker's, which asks every middleware on every signal, but asks only those that handle it."""
        for handler in self._handling(f"before_{signal}"):
            try:
                handler(self, *arguments, **options)
            except MiddlewareError:
                raise
            except Exception:
                self.logger.critical("unexpected fault in %r", handler, exc_info=True)

    def emit_after(self, signal: str, *arguments: Any, **options: Any) -> None:
        for handler in reversed(self._handling(f"after_{signal}")):
            try:
                handler(self, *arguments, **options)
            except Exception:
                self.logger.critical("unexpected fault in %r", handler, exc_info=True)

    def _handling(self, signal: str) -> list[Callable[..., None]]:
        handlers = self._handlers.get(signal)
        if handlers is None:
            idle = getattr(Middleware, signal, None)
            those = [one for one in self.middleware if getattr(type(one), signal, None) is not idle]
            handlers = self._handlers[signal] = [getattr(one, signal) for one in those]
        return handlers

    def tell_of_room(self) -> None:
        """This process has fewer steps in hand than before: its consumers may fetch more."""
        for consumer in self.consuming:
            consumer.look()

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

    def enqueue_many(self, messages: Sequence[Message[Any]], *, force: bool = False, hint: str = "") -> int:
        """Pushes messages of one queue in one round trip; how many were new. `force` pushes an id again whose message
        is known but in no list (push.lua); `hint` is published with them. Raises redis.RedisError, at once while Redis is
        known to be away."""
        if not messages:
            return 0
        if not self.health.worth_trying():
            raise redis.ConnectionError("it is away")
        queue_name = messages[0].queue_name
        pairs: list[str | bytes] = []
        encode = get_encoder().encode
        for message in messages:
            self.emit_before("enqueue", message, None)
            options = {**message.options, "redis_message_id": message.message_id}
            pairs += (message.message_id, encode({**vars(message), "options": options}))
        keys = [self.key(queue_name), self.key(queue_name, ".msgs"), self.key(queue_name, ".wake")]
        try:
            pushed = int(self._push(keys=keys, args=[int(force), self.hints_channel, hint, *pairs]))
        except redis.RedisError as error:
            self.health.failed(error)
            raise
        self.health.answered()
        if hint:
            HINTS_PUBLISHED.add(1)
        for message in messages:
            self.emit_after("enqueue", message, None)
        return pushed

    def tell(self, executions: Iterable[UUID | None]) -> None:
        """Publishes which executions changed: soon, where a teller runs, else now. Raises redis.RedisError."""
        if self.teller is not None:
            for execution in executions:
                self.teller.tell(execution)
        elif hint := write_hint(executions):
            self.publish(hint)

    def publish(self, hint: str) -> None:
        """Publishes a hint alone. Not tried while Redis is known to be away: nobody is to wait for one. Raises
        redis.RedisError."""
        if self.health.away_for() > 0:
            return
        try:
            self.client.publish(self.hints_channel, hint)
        except redis.RedisError as error:
            self.health.failed(error)
            raise
        HINTS_PUBLISHED.add(1)

    def acknowledge(self, queue_name: str, message_ids: Sequence[str]) -> None:
        """Forgets messages that this process is done with, in one round trip. Raises redis.RedisError."""
        keys = [self.acks_key(self.broker_id, queue_name), self.key(queue_name, ".msgs")]
        self._acknowledge(keys=keys, args=list(message_ids))

    def hand_back(self, queue_name: str, messages: Iterable[MessageProxy]) -> None:
        """Returns messages that this process fetched and will not run. What Redis cannot take now is pushed again later:
        its step's row says when."""
        ids = [message.options["redis_message_id"] for message in messages if "redis_message_id" in message.options]
        if not ids or not self.health.worth_trying():
            return
        try:
            self.do_requeue(queue_name, *ids)
            self.client.rpush(self.key(queue_name, ".wake"), *["1"] * min(len(ids), 16))
        except redis.RedisError as error:
            self.health.failed(error)

    def consumers_known(self) -> set[str]:
        """The broker ids that have fetched and were not given up yet."""
        entries = cast("list[bytes]", self.client.zrange(self.heartbeats_key, 0, -1))
        return {entry.decode() for entry in entries}

    def give_back(self, broker_id: str, queue_name: str) -> int:
        """Returns the messages that a dead consumer had fetched to their queue, and forgets it; how many."""
        keys = [
            self.acks_key(broker_id, queue_name),
            self.key(queue_name),
            self.key(queue_name, ".msgs"),
            self.key(queue_name, ".wake"),
            self.heartbeats_key,
        ]
        return int(self._give_back(keys=keys, args=[broker_id]))

    def messages(self, queue_name: str) -> dict[str, int]:
        """How many wait, and how many are dead letters. Raises redis.RedisError."""
        waiting, dead = self.client.llen(self.key(queue_name)), self.client.zcard(self.key(queue_name, ".XQ"))
        return {"ready": cast(int, waiting), "dead": cast(int, dead)}

    def forget_dead_letters(self, queue_name: str) -> int:
        """Removes the dead letters older than a week; how many."""
        letters, bodies = self.key(queue_name, ".XQ"), self.key(queue_name, ".XQ.msgs")
        oldest_kept = self.client.time()[0] * 1000 - DEAD_LETTERS_KEPT
        old = self.client.zrangebyscore(letters, 0, oldest_kept, start=0, num=1000)
        if old:
            self.client.zrem(letters, *old)
            self.client.hdel(bodies, *old)
        return len(old)

    def kept_its_messages(self) -> bool:
        """Whether Redis has been there all the time since the last `mark` and has lost nothing. Raises redis.RedisError."""
        try:
            marked = bool(self.client.exists(self._mark_key))
        except redis.RedisError as error:
            self.health.failed(error)
            raise
        self.health.answered()
        return marked and self.health.outages == self._outages_marked

    def mark(self) -> None:
        """Leaves a mark that only a loss of data removes."""
        self._outages_marked = self.health.outages
        self.client.set(self._mark_key, "1")

    @property
    def _mark_key(self) -> str:
        return f"{self.namespace}:mark"

    def wait_for_push(self, queue_name: str, seconds: float) -> None:
        """Sleeps until somebody pushes, at most `seconds`."""
        self._wake.blpop([self.key(queue_name, ".wake")], timeout=seconds)

    def close(self) -> None:
        self.client.close()
        self._wake.close()
        super().close()


def _refuse_delay() -> NoReturn:
    raise ValueError("step messages have no delay: set next_run_at and dispatch_after of the step's row instead")
