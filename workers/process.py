"""Everything one worker process holds: its pool, its tools, its lease, and what it is running.

Opened when the worker boots (after any fork), closed when it has stopped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from uuid import UUID

import dramatiq
from dramatiq import Broker
from dramatiq.middleware import Middleware, MiddlewareError

from orchestrator.broker import StepBroker
from persistence.errors import Afu9Error
from persistence.ids import time_ordered_uuid
from persistence.pool import open_pool
from persistence.settings import Settings
from workers.in_flight import InFlight
from workers.keep_catalogue import CatalogueKeeper
from workers.lease import Lease
from workers.mcp_client import McpClient
from workers.run_step import StepRunner
from workers.secrets import RedactingFilter
from workers.tools import Tools

log = logging.getLogger(__name__)


class WorkerBootFailed(Afu9Error, MiddlewareError):
    """A worker that cannot reach or read what it needs must not start."""

    def __init__(self, cause: Afu9Error):
        self.exit_code = cause.exit_code
        super().__init__(f"the worker cannot start: {cause}")


class WorkerProcess(Middleware):
    """A Dramatiq middleware, because Dramatiq knows when a worker boots and stops."""

    runner: StepRunner
    tools: Tools

    def __init__(self, settings: Settings):
        self._settings = settings
        self.worker_id: UUID = time_ordered_uuid()
        self.in_flight = InFlight()

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Opens everything. Raises WorkerBootFailed: any other exception Dramatiq would log, and start all the same."""
        try:
            self._open(broker, worker)
        except Afu9Error as error:
            raise WorkerBootFailed(error) from error

    def alive(self) -> bool:
        """Whether the lease is being renewed."""
        return self._lease.alive()

    def _open(self, broker: Broker, worker: dramatiq.Worker) -> None:
        if not isinstance(broker, StepBroker):
            raise TypeError("workers need a StepBroker: orchestrator/broker.py")
        broker.broker_id = str(self.worker_id)  # so that the messages a dead worker had fetched can be given back
        dsn = self._settings.database_dsn
        self._client = McpClient.from_environment(self._settings.mcp_config)
        self._pool = open_pool(dsn, max_size=worker.worker_threads + 2)
        self.tools = tools = Tools.from_settings(self._client, self._settings, self._pool)
        self._catalogue = CatalogueKeeper(self._pool, self._client, self._settings.tools_ttl_seconds)
        self._lease = Lease(
            dsn,
            self.worker_id,
            role="worker",
            threads=worker.worker_threads,
            seconds=self._settings.heartbeat_seconds,
            on_stopped=self.in_flight.cancel,
        )
        self.runner = StepRunner(self._pool, broker, tools, self.worker_id, self.in_flight)
        self._lease.start()
        self._catalogue.start()
        for handler in logging.getLogger().handlers:
            handler.addFilter(RedactingFilter(tools.secrets))
        log.info("worker %s: ready with %d threads", self.worker_id, worker.worker_threads)

    def before_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Running calls get most of the drain time; what has not ended by then is handed back, uncharged.

        Waits here, because Dramatiq's own wait for its threads counts the time of the first ones again for each.
        """
        begin, drain = time.monotonic(), self._settings.drain_seconds
        for thread in worker.workers:
            thread.stop()
        _join(worker.workers, begin + 0.8 * drain)
        if count := self.in_flight.cancel_all():
            log.warning("worker %s: handing %d running steps back", self.worker_id, count)
            _join(worker.workers, begin + drain)

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        self._catalogue.stop()
        self._lease.stop()
        self._client.close()
        self._pool.close()
        log.info("worker %s: stopped", self.worker_id)


def _join(threads: Iterable[threading.Thread], until: float) -> None:
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))
