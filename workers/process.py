"""Everything one worker process holds: its pool, its tools, its lease, and what it is running.

Opened when the worker boots (after any fork), closed when it has stopped.
"""

from __future__ import annotations

import logging
import threading
from uuid import UUID

import dramatiq
from dramatiq import Broker
from dramatiq.middleware import Middleware

from orchestrator.broker import StepBroker
from persistence.ids import time_ordered_uuid
from persistence.pool import open_pool
from persistence.settings import Settings
from workers.in_flight import InFlight
from workers.lease import Lease
from workers.mcp_client import McpClient
from workers.run_step import StepRunner

log = logging.getLogger(__name__)


class WorkerProcess(Middleware):
    """A Dramatiq middleware, because Dramatiq knows when a worker boots and stops."""

    runner: StepRunner

    def __init__(self, settings: Settings):
        self._settings = settings
        self.worker_id: UUID = time_ordered_uuid()
        self.in_flight = InFlight()

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        if not isinstance(broker, StepBroker):
            raise TypeError("workers need a StepBroker: orchestrator/broker.py")
        broker.broker_id = str(self.worker_id)  # so that the messages a dead worker had fetched can be given back
        dsn = self._settings.database_dsn
        self._tools = McpClient.from_environment(self._settings.mcp_config)
        self._pool = open_pool(dsn, max_size=worker.worker_threads + 2)
        self._lease = Lease(
            dsn,
            self.worker_id,
            role="worker",
            threads=worker.worker_threads,
            seconds=self._settings.heartbeat_seconds,
            on_stopped=self.in_flight.cancel,
        )
        self.runner = StepRunner(self._pool, broker, self._tools, self.worker_id, self.in_flight)
        self._lease.start()
        log.info("worker %s: ready with %d threads", self.worker_id, worker.worker_threads)

    def before_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Running calls get most of the drain time; what has not ended by then is handed back, uncharged."""
        self._handing_back = threading.Timer(self._settings.drain_seconds * 0.8, self._hand_back)
        self._handing_back.daemon = True
        self._handing_back.start()

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        self._handing_back.cancel()
        self._lease.stop()
        self._tools.close()
        self._pool.close()
        log.info("worker %s: stopped", self.worker_id)

    def _hand_back(self) -> None:
        if count := self.in_flight.cancel_all():
            log.warning("worker %s: handing %d running steps back", self.worker_id, count)
