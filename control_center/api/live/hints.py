"""Hears the hints that orchestrator/push.py publishes.

Invariant: silence is never taken for peace. A subscription that answers no ping is given up, so that a Redis that hangs
counts as one that is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

import redis
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from control_center.api.live.messages import Mode
from orchestrator.hints import read_hint

log = logging.getLogger(__name__)

TRY_AGAIN = 0.5  # seconds
LISTEN = 1.0  # seconds of silence until a ping
SILENT = 3.0  # seconds of silence that end a subscription


async def listen(
    url: str, channel: str, on_hint: Callable[[list[UUID]], None], on_mode: Callable[[Mode], None]
) -> None:
    """For ever. `on_mode` hears `live` once the subscription stands, and `polling` when it broke."""
    while True:
        try:
            # no retries: a connection that mends itself would not tell that hints were lost
            client = Redis.from_url(url, socket_connect_timeout=2.0, socket_timeout=5.0, retry=Retry(NoBackoff(), 0))
            async with client, client.pubsub() as subscription:
                await subscription.subscribe(channel)
                await _hear(subscription, on_hint, on_mode)
        except (redis.RedisError, OSError, TimeoutError) as error:
            log.debug("live: %s", error)
        except Exception:  # a listener that ends would leave the process polling for ever
            log.exception("live: unexpected fault, subscribing anew")
        on_mode("polling")
        await asyncio.sleep(TRY_AGAIN)


async def _hear(subscription: PubSub, on_hint: Callable[[list[UUID]], None], on_mode: Callable[[Mode], None]) -> None:
    loop = asyncio.get_running_loop()
    heard_at = loop.time()
    while loop.time() - heard_at < SILENT:
        message: dict[str, Any] | None = await subscription.get_message(timeout=LISTEN)
        if message is None:
            await subscription.ping()
            continue
        heard_at = loop.time()
        if message["type"] == "subscribe":
            on_mode("live")
        elif message["type"] == "message":
            try:
                on_hint(read_hint(message["data"]))
            except ValueError:
                log.debug("live: something that is no hint came on the channel")
