"""Everything one worker process holds: its pool, its tools, its lease, and what it is running.

Opened when the worker boots (after any fork), closed when it has stopped.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import re
import time
from collections import Counter
from collections.abc import Iterator
from uuid import UUID

import dramatiq
from dramatiq import Broker
from dramatiq.middleware import Middleware, MiddlewareError
from prometheus_client.core import GaugeMetricFamily

from orchestrator import trace
from orchestrator.attempt_step import CALLING
from orchestrator.broker import StepBroker
from orchestrator.hints import Teller
from orchestrator.metrics import DRAINS, TOOL_CALLS_IN_FLIGHT, WORKER_SLOTS, WORKER_SLOTS_BUSY
from orchestrator.push import STEP_QUEUE
from orchestrator.serve_metrics import Exposition, MetricsServer, pool_gauges
from persistence.errors import Afu9Error
from persistence.ids import time_ordered_uuid
from persistence.migrate import require_schema
from persistence.pool import check_database, open_pool
from persistence.settings import Settings
from persistence.write_log import name_worker
from workers.admit import Admission
from workers.deliver_directly import DirectDelivery
from workers.drain import drain
from workers.in_flight import InFlight
from workers.keep_catalogue import CatalogueKeeper
from workers.lease import Lease
from workers.mcp_client import McpClient
from workers.run_step import StepRunner
from workers.secrets import RedactingFilter
from workers.tools import Tools
from workers.watch import Watchdog
from workers.work_queue import WorkQueue

log = logging.getLogger(__name__)

WARM = 2  # connections: a claim and a commit are under way at once
GARBAGE = 50_000  # objects between two looks for cycles, of which a step makes none: a twentieth of its processor time
CONNECTIONS = 16  # of a worker's pool at most: none is held during a call, and more bring nothing


class WorkerBootFailed(Afu9Error, MiddlewareError):
    """A worker that cannot reach or read what it needs must not start."""

    def __init__(self, cause: Afu9Error):
        self.exit_code = cause.exit_code
        super().__init__(f"the worker cannot start: {cause}")


class WorkerProcess(Middleware):
    """A Dramatiq middleware, because Dramatiq knows when a worker boots and stops. `watched`: the process may end itself
    when it can no longer work."""

    runner: StepRunner
    tools: Tools

    def __init__(self, settings: Settings, *, watched: bool = True):
        self._settings = settings
        self._watched = watched
        self._given_up: str | None = None
        self._puzzled_since: float | None = None
        self._threads = 0
        self._stopped_at = 0.0
        self.worker_id: UUID = time_ordered_uuid()
        self.in_flight = InFlight()

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Opens everything. Raises WorkerBootFailed: any other exception Dramatiq would log, and start all the same."""
        try:
            self._open(broker, worker)
        except Afu9Error as error:
            raise WorkerBootFailed(error) from error

    def _open(self, broker: Broker, worker: dramatiq.Worker) -> None:
        if not isinstance(broker, StepBroker):
            raise TypeError("workers need a StepBroker: orchestrator/broker.py")
        settings = self._settings
        broker.broker_id = str(self.worker_id)  # so that the messages a dead worker had fetched can be given back
        self._client = McpClient.from_environment(settings.mcp_config)
        self._pool = open_pool(
            settings.database_dsn, min_size=WARM, max_size=min(worker.worker_threads + 2, CONNECTIONS)
        )
        require_schema(settings.database_dsn)
        self._catalogue = CatalogueKeeper(self._pool, self._client, settings.tools_ttl_seconds)
        queue = WorkQueue(worker.worker_threads)
        worker.work_queue = queue  # type: ignore[assignment]  # it does what Dramatiq asks of one
        broker.load, broker.wanted = queue.load, queue.wanted
        queue.on_room = broker.tell_of_room
        self.tools = tools = Tools.from_settings(
            self._client, settings, self._pool, known=self._catalogue.wait_for, waiting=queue.calling
        )
        self._trace(broker)
        self._lease = Lease(
            settings.database_dsn,
            self.worker_id,
            role="worker",
            threads=worker.worker_threads,
            seconds=settings.heartbeat_seconds,
            on_stopped=self.in_flight.cancel,
        )
        self.runner = StepRunner(self._pool, broker, tools, self.worker_id, self.in_flight, queue)
        broker.teller = Teller(broker.publish)
        self._direct = DirectDelivery(self._pool, broker, worker, settings.direct_seconds)
        self._watchdog = Watchdog(
            lambda: self._complaint(worker),
            lambda: self._drain_for_good(worker, broker),
            look_seconds=settings.heartbeat_seconds,
            hang_seconds=2 * settings.lease_seconds,
        )
        self._threads = worker.worker_threads
        self._metrics = self._metrics_server()
        self._metrics.start()
        self.runner.warm_up(WARM)
        self._lease.start()
        self._catalogue.start()
        broker.teller.start()
        name_worker(self.worker_id)
        for handler in logging.getLogger().handlers:
            handler.addFilter(RedactingFilter(tools.secrets))

    def _metrics_server(self) -> MetricsServer:
        settings = self._settings
        return MetricsServer(
            settings if self._watched else settings.model_copy(update={"metrics_port": 0}),  # else it is the caller's
            Exposition("worker", self._gauges),
            checks=self._checks,
            beside=process_number(),
        )

    def _trace(self, broker: Broker) -> None:
        trace.begin("worker", payloads=self._settings.trace_payloads)
        if trace.on is not None:
            from workers.trace_messages import TraceMessages

            broker.add_middleware(TraceMessages(trace.on), after=Admission)

    def after_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        self._direct.start()
        if self._watched:
            gc.freeze()
            gc.set_threshold(GARBAGE, 20, 20)
            self._watchdog.start()
        log.info("worker %s: ready with %d threads", self.worker_id, worker.worker_threads)

    def _gauges(self) -> Iterator[GaugeMetricFamily]:
        yield from pool_gauges({"steps": self._pool})
        calls = Counter(list(CALLING.values()))
        yield TOOL_CALLS_IN_FLIGHT.family([((server,), count) for server, count in calls.items()])
        yield WORKER_SLOTS.family([((STEP_QUEUE,), self._threads)])
        yield WORKER_SLOTS_BUSY.family([((STEP_QUEUE,), self.in_flight.count())])

    def _checks(self) -> dict[str, str]:
        held = self._lease.alive() and self._lease.silent_for() <= self._settings.lease_seconds
        return {"lease": "ok" if held else f"not renewed for {self._lease.silent_for():.0f} s"}

    def _drain_for_good(self, worker: dramatiq.Worker, broker: StepBroker) -> None:
        DRAINS.add(1, "gave_up")
        drain(worker, broker, self.runner, self._settings.drain_seconds)

    def give_up(self, reason: str) -> None:
        """The process can do no useful work any more: the watchdog ends it."""
        self._given_up = reason

    def _complaint(self, worker: dramatiq.Worker) -> str | None:
        threads = [*worker.consumers.values(), *worker.workers]
        if self._given_up is not None:
            return self._given_up
        if not self._lease.alive():
            return "the thread that renews its lease died"
        if not (self._direct.alive() and all(thread.is_alive() for thread in threads)):
            return "a consumer or worker thread died"
        if self._lease.silent_for() <= self._settings.lease_seconds or not check_database(self._pool):
            self._puzzled_since = None
            return None
        self._puzzled_since = self._puzzled_since or time.monotonic()
        if time.monotonic() - self._puzzled_since <= self._settings.lease_seconds:
            return None  # the database may have come back just now
        return "its lease cannot be renewed, although the database answers"

    def before_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        self._stopped_at = time.monotonic()
        self._metrics.begin_stop()
        self._watchdog.stop()
        self._direct.stop()
        DRAINS.add(1, "stopped")
        if isinstance(broker, StepBroker):
            drain(worker, broker, self.runner, self._settings.drain_seconds)

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        self._catalogue.stop()
        self._lease.stop()
        if isinstance(broker, StepBroker) and broker.teller is not None:
            broker.teller.stop()
        self._client.close()
        self._pool.close()
        trace.end()
        self._metrics.stop(self._stopped_at + self._settings.drain_seconds - time.monotonic())
        log.info("worker %s: stopped", self.worker_id)


def process_number() -> int:
    """0 for `afu9 worker` and the first process of `dramatiq --processes N`, 1 for its second one, and so on: each has a port
    of its own, so that a scrape sees one process whole, and counts are never shared or lost between processes."""
    named = re.fullmatch(r"Process-(\d+)", multiprocessing.current_process().name)
    return int(named[1]) - 1 if named else 0
