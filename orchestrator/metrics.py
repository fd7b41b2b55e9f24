"""Every metric of every role, in one place: name, kind, labels, meaning. docs/metrics.md is its table, by test.

Invariants: counted is what a transition answered, after its commit, so that counters equal rows. Labels are bounded: a label
has 200 values, a metric 2,000 series at most, whatever comes later is `other`; no label holds an id. Who counts leaves only
a note; notes are added up by a scrape, or by whoever leaves the thousandth, and who counts never waits for that.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

VALUES: Final = 200  # of a label
SERIES: Final = 2000  # of a metric, before its labels become `other`
OTHER: Final = "other"
MANY: Final = 1024  # notes that are added up at once

Kind = Literal["counter", "gauge", "histogram"]
Where = Literal["process", "fleet"]
Labels = tuple[str, ...]

TOOL_BUCKETS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)  # the MCP convention's
WAIT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
LONG_BUCKETS: Final = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)
HTTP_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10)


class Described(NamedTuple):
    """A metric as people see it. `fleet`: read from the database, so the same on every replica."""

    name: str
    kind: Kind
    labels: Labels
    meaning: str
    where: Where

    def family(self, samples: Iterable[tuple[Labels, float]]) -> GaugeMetricFamily:
        """What a scrape shows of a gauge that is read at that moment."""
        family = GaugeMetricFamily(self.name, self.meaning, labels=self.labels)
        for values, value in samples:
            family.add_metric(values, value)
        return family


class Counted:
    """A counter or a histogram. One without labels is there from the beginning."""

    def __init__(self, described: Described, buckets: Sequence[float] = ()):
        self.described = described
        self._bounds = [*(str(float(bound)) for bound in buckets), "+Inf"]
        self._buckets = list(buckets)
        self._seen: list[set[str]] = [set() for _ in described.labels]
        self._sums: dict[Labels, float] = {} if described.labels else {(): 0.0}
        self._counts: dict[Labels, list[int]] = {}

    def add(self, amount: float, *values: str) -> None:
        """Counts so much, or so many seconds, for these values of the labels. Safe for any number of threads."""
        _notes.append((self, values, amount))
        if len(_notes) >= MANY:
            add_up(wait=False)

    def take(self, values: Labels, amount: float) -> None:
        """Adds a note up; the caller holds the lock."""
        if values not in self._sums:
            values = self._bounded(values)
            self._sums.setdefault(values, 0.0)
        self._sums[values] += amount
        if self._buckets:
            counts = self._counts.setdefault(values, [0] * len(self._bounds))
            counts[bisect_left(self._buckets, amount)] += 1

    def family(self) -> Metric:
        """What a scrape shows."""
        name, _, labels, meaning, _ = self.described
        if not self._buckets:
            counter = CounterMetricFamily(name, meaning, labels=labels)
            for values, total in self._sums.items():
                counter.add_metric(values, total)
            return counter
        histogram = HistogramMetricFamily(name, meaning, labels=labels)
        for values, counts in self._counts.items():
            upto, buckets = 0, []
            for bound, count in zip(self._bounds, counts, strict=True):
                upto += count
                buckets.append((bound, upto))
            histogram.add_metric(values, buckets, self._sums[values])
        return histogram

    def _bounded(self, values: Labels) -> Labels:
        if len(self._sums) >= SERIES:
            return (OTHER,) * len(values)
        return tuple(map(_bounded, values, self._seen))


def _bounded(value: str, seen: set[str]) -> str:
    if value not in seen and len(seen) >= VALUES:
        return OTHER
    seen.add(value)
    return value


_notes: deque[tuple[Counted, Labels, float]] = deque()
_adding = threading.Lock()


def add_up(*, wait: bool) -> None:
    """Adds up the notes that were left so far. Without `wait` whoever does it already goes on alone."""
    if not _adding.acquire(blocking=wait):
        return
    try:
        _add_up()
    finally:
        _adding.release()


def _add_up() -> None:
    for _ in range(len(_notes)):
        counted, values, amount = _notes.popleft()
        counted.take(values, amount)


class Process(Collector):
    """What was counted in this process."""

    def collect(self) -> Iterator[Metric]:
        with _adding:
            _add_up()
            families = [counted.family() for counted in COUNTED.values()]
        yield from families


DESCRIBED: Final[dict[str, Described]] = {}
COUNTED: Final[dict[str, Counted]] = {}


def _describe(name: str, kind: Kind, labels: Labels, meaning: str, where: Where = "process") -> Described:
    described = DESCRIBED[name] = Described(name, kind, labels, meaning, where)
    return described


def _counter(name: str, meaning: str, *labels: str) -> Counted:
    counted = COUNTED[name] = Counted(_describe(name, "counter", labels, meaning))
    return counted


def _histogram(name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Counted:
    counted = COUNTED[name] = Counted(_describe(name, "histogram", labels, meaning), buckets)
    return counted


def _read(name: str, meaning: str, *labels: str) -> Described:
    return _describe(name, "gauge", labels, meaning)


def _fleet(name: str, meaning: str, *labels: str) -> Described:
    return _describe(name, "gauge", labels, meaning, "fleet")


# ---------------------------------------------------------------------------------------------------- what happened here

EXECUTIONS_STARTED = _counter("afu9_executions_started_total", "Executions that were started here.", "workflow")
EXECUTIONS_FINISHED = _counter(
    "afu9_executions_finished_total", "Executions that came to their end here.", "workflow", "status", "reason"
)
EXECUTION_DURATION = _histogram(
    "afu9_execution_duration_seconds",
    "From an execution's start to its end, pauses included.",
    LONG_BUCKETS,
    "workflow",
)
EXECUTION_START_DELAY = _histogram(
    "afu9_execution_start_delay_seconds", "From an execution's start to its first claim.", WAIT_BUCKETS, "queue"
)
STEPS_FINISHED = _counter("afu9_steps_finished_total", "Steps that ended here.", "workflow", "step", "status", "reason")
STEP_RETRIES = _counter(
    "afu9_step_retries_total", "Attempts that are followed by another one.", "workflow", "step", "reason"
)
STEP_REUSE = _counter("afu9_step_reuse_total", "Results that a fork or replay took over.", "workflow")
TOOL_CALL_DURATION = _histogram(
    "afu9_tool_call_duration_seconds", "How long tool calls took.", TOOL_BUCKETS, "server", "tool", "outcome"
)
MESSAGE_WAIT = _histogram(
    "afu9_message_wait_seconds", "From a message's push to the thread that took it.", WAIT_BUCKETS, "queue"
)
DRAINS = _counter("afu9_drains_total", "Times that a worker stopped.", "cause")
LEASE_LOST = _counter("afu9_lease_lost_total", "Results that came too late: the step was no longer this worker's.")
RECOVERED = _counter("afu9_recovered_total", "Steps that the orchestrator took up again.", "cause")
COST = _counter("afu9_cost_usd_total", "What recorded attempts cost, in US dollars.", "workflow", "server", "tool")
HTTP_DURATION = _histogram(
    "afu9_http_request_duration_seconds", "How long the API's answers took.", HTTP_BUCKETS, "route", "method", "code"
)
WS_CONNECTIONS = _read("afu9_ws_connections", "Readers of live updates, over WebSockets and as events.")
WS_RESYNCS = _counter("afu9_ws_resyncs_total", "Times that a reader was told to read a topic anew.")
LIVE_POLLING = _read("afu9_live_polling", "1 while no hints reach the API, so that live updates come late.")
HINTS_PUBLISHED = _counter("afu9_hints_published_total", "Hints for live readers that were published.")

# ---------------------------------------------------------------------------------------------------- how it is here now

TOOL_CALLS_IN_FLIGHT = _read("afu9_tool_calls_in_flight", "Tool calls under way.", "server")
WORKER_SLOTS = _read("afu9_worker_slots", "Steps that this worker can run at once.", "queue")
WORKER_SLOTS_BUSY = _read("afu9_worker_slots_busy", "Steps that this worker is running.", "queue")
DB_POOL_SIZE = _read("afu9_db_pool_size", "Connections of the pool.", "pool")
DB_POOL_IDLE = _read("afu9_db_pool_idle", "Connections of the pool that nobody uses.", "pool")
DB_POOL_WAITING = _read("afu9_db_pool_waiting", "Threads that wait for a connection of the pool.", "pool")
BUILD_INFO = _read("afu9_build_info", "1: which program runs here.", "role", "version", "python")

# ---------------------------------------------------------------------------------------------------- how the fleet is

QUEUE_DEPTH = _fleet("afu9_queue_depth", "Steps that wait for a worker, 10,000 at most.", "queue", "state")
QUEUE_AGE = _fleet("afu9_queue_oldest_age_seconds", "How long the oldest ready step has waited.", "queue")
EXECUTIONS_ACTIVE = _fleet(
    "afu9_executions_active", "Executions that are not at their end, 20,000 per status at most.", "workflow", "status"
)
STUCK = _fleet("afu9_invariant_stuck", "Executions that nothing will move, 1,000 at most; must be 0.")
LEASES_EXPIRED = _fleet("afu9_leases_expired", "Running steps that the reaper should have charged; near 0.")
UNCERTAIN = _fleet("afu9_uncertain_steps", "Steps of unknown outcome that wait for a decision, 1,000 at most.")
OUTBOX_AGE = _fleet("afu9_outbox_oldest_age_seconds", "How late the oldest overdue dispatch is.")
BROKER_MESSAGES = _fleet("afu9_broker_messages", "Messages in Redis.", "queue", "kind")
WORKERS_ALIVE = _fleet("afu9_workers_alive", "Workers whose lease holds.", "queue")
FLEET_SLOTS = _fleet("afu9_fleet_slots", "Steps that all living workers can run at once.", "queue")
SERVER_AWAY = _fleet("afu9_server_away", "1: the newest look at this MCP server's tools failed.", "server")
SCHEMA_VERSION = _fleet(
    "afu9_schema_version", "The newest migration: known to this code, applied to the database.", "kind"
)
SCRAPE_OK = _fleet("afu9_fleet_scrape_ok", "Whether the source of the fleet's figures answered.", "source")
