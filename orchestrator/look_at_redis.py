"""What is in Redis, for people: asked over a connection of its own and with little patience, so that a page that tells of an
outage does not wait for it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.broker import StepBroker
from orchestrator.push import QUEUES

PATIENCE = 0.3  # seconds for the connection, and for each answer


@dataclass(frozen=True, slots=True)
class RedisLook:
    """`away`: why it did not answer. Messages: in the queues, in the hands of workers, and dead letters. There are no delayed
    ones: time is kept in PostgreSQL."""

    away: str | None = None
    milliseconds: float = 0.0
    waiting: int = 0
    fetched: int = 0
    dead: int = 0


def look_at_redis(broker: StepBroker) -> RedisLook:
    client = redis.Redis.from_url(
        broker.url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=Retry(NoBackoff(), 0)
    )
    try:
        client.ping()  # the connection is made
        started = time.perf_counter()
        client.ping()
        took = (time.perf_counter() - started) * 1000
        pipe = client.pipeline(transaction=False)
        for queue in QUEUES:
            pipe.llen(broker.key(queue))
            pipe.hlen(broker.key(queue, ".msgs"))
            pipe.zcard(broker.key(queue, ".XQ"))
        counts = pipe.execute()
    except redis.RedisError as error:
        return RedisLook(away=" ".join(str(error).split())[:200] or type(error).__name__)
    finally:
        client.close()
    waiting, bodies, dead = (sum(counts[start::3]) for start in range(3))
    return RedisLook(None, took, waiting, max(bodies - waiting, 0), dead)
