"""How the whole fleet is, as metrics: what waits, what runs, and what must be zero. Read from the rows (and the lengths of
queues from Redis), so every replica tells the same: take max over instances, never sum.

Asked for at a scrape, at most every five seconds, by one scrape at a time; nothing is asked where nobody scrapes. Of a source
that does not answer the figures are left out (`afu9_fleet_scrape_ok` says so): an old one would be a claim.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import redis
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from orchestrator import metrics
from orchestrator.broker import StepBroker
from orchestrator.plan import UNNAMED
from orchestrator.push import QUEUES, STEP_QUEUE
from persistence.errors import Afu9Error
from persistence.migrate import migrations
from persistence.pool import Pool, run

log = logging.getLogger(__name__)

KEPT = 5.0  # seconds
MOST_STUCK = 1000  # more are counted as so many
MOST_UNDECIDED = 1000
MOST_WAITING = 10_000
MOST_ACTIVE = 20_000


class Fleet(Collector):
    """The figures, as one collector. `lease_seconds`: silent for longer, a worker is dead."""

    def __init__(self, pool: Pool, broker: StepBroker, lease_seconds: float, kept: float = KEPT):
        self._pool = pool
        self._broker = broker
        self._lease_seconds = lease_seconds
        self._kept = kept
        self._lock = threading.Lock()
        self._families: list[GaugeMetricFamily] = []
        self._fresh_until = 0.0

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._families = self._measure()
                self._fresh_until = time.monotonic() + self._kept
            yield from self._families

    def _measure(self) -> list[GaugeMetricFamily]:
        families: list[GaugeMetricFamily] = []
        answered = []
        for source, ask in (("database", self._ask_database), ("redis", self._ask_redis)):
            try:
                families += list(ask())
                answered.append(((source,), 1.0))
            except (Afu9Error, redis.RedisError) as error:
                log.warning("metrics: no figures from the %s: %s", source, error)
                answered.append(((source,), 0.0))
        return [*families, metrics.SCRAPE_OK.family(answered)]

    def _ask_database(self) -> Iterator[GaugeMetricFamily]:
        waiting = {row["state"]: row for row in self._run("depth_by_state", limit=MOST_WAITING)}
        depths = [((STEP_QUEUE, state), _figure(waiting, state, "steps")) for state in ("ready", "delayed", "held")]
        yield metrics.QUEUE_DEPTH.family(depths)
        yield metrics.QUEUE_AGE.family([((STEP_QUEUE,), _figure(waiting, "ready", "oldest"))])
        active = _by_workflow(self._run("active_executions", limit=MOST_ACTIVE))
        yield metrics.EXECUTIONS_ACTIVE.family(active.items())
        yield metrics.STUCK.family([((), len(self._run("stuck_executions", limit=MOST_STUCK)))])
        yield metrics.OUTBOX_AGE.family([((), self._run("outbox_age")[0]["seconds"])])
        facts = self._run("fleet_facts", lease=self._lease_seconds)[0]
        yield metrics.LEASES_EXPIRED.family([((), facts["leases_expired"])])
        undecided = self._run(
            "undecided_steps", candidates=MOST_UNDECIDED, limit=MOST_UNDECIDED
        )  # as the inbox shows them
        yield metrics.UNCERTAIN.family([((), len(undecided))])
        yield metrics.WORKERS_ALIVE.family([((STEP_QUEUE,), facts["workers"])])
        yield metrics.FLEET_SLOTS.family([((STEP_QUEUE,), facts["slots"])])
        versions = {"code": migrations()[-1].version, "db": facts["schema_version"]}
        yield metrics.SCHEMA_VERSION.family([((kind,), version) for kind, version in versions.items()])
        servers = self._run("servers_away", limit=metrics.VALUES)
        yield metrics.SERVER_AWAY.family([((row["name"],), float(row["away"])) for row in servers])

    def _ask_redis(self) -> Iterator[GaugeMetricFamily]:
        if self._broker.health.away_for() > 0 and not self._broker.health.worth_trying():
            raise redis.ConnectionError("it is away")
        messages = {queue: self._broker.messages(queue) for queue in QUEUES}
        samples = [((queue, kind), count) for queue, found in messages.items() for kind, count in found.items()]
        yield metrics.BROKER_MESSAGES.family(samples)

    def _run(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        return run(self._pool, query, parameters)


def _figure(waiting: dict[str, dict[str, Any]], state: str, name: str) -> float:
    return float(waiting[state][name]) if state in waiting else 0.0


def _by_workflow(rows: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """Those with most executions by their names, all others together."""
    named: dict[str, str] = {}
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        name = row["workflow"] or UNNAMED
        label = named.setdefault(name, name if len(named) < metrics.VALUES else metrics.OTHER)
        found[label, row["status"]] += row["executions"]
    return found
