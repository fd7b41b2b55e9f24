"""Steps without Redis: while it is away, due steps come from their rows and are delivered inside the process.

The broker and its middleware see each as any message. Steps are taken with SKIP LOCKED and are due again after a while,
as if the dispatcher had pushed them, so nothing is lost with this process and no two workers are handed the same one. Only
as many are taken as threads are free.
"""

from __future__ import annotations

import logging
import threading

import dramatiq
from dramatiq.broker import MessageProxy

from orchestrator.broker import StepBroker
from orchestrator.push import STEP_QUEUE, step_message
from orchestrator.recover import ring_for_all
from persistence.errors import Afu9Error
from persistence.pool import Pool, run
from persistence.transitions import ReadyStep

log = logging.getLogger(__name__)

LOOK = 0.2  # seconds between looks, for Redis and for steps
BUSY = 0.01  # seconds until the next look while threads wait for steps and there are some


class DirectDelivery:
    """A thread that wakes when Redis has been away for `after` seconds, and rests when it answers again."""

    def __init__(self, pool: Pool, broker: StepBroker, worker: dramatiq.Worker, after: float):
        self._pool = pool
        self._broker = broker
        self._worker = worker
        self._after = after
        self._under_way = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="direct", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def _keep(self) -> None:
        pause = LOOK
        while not self._stopping.wait(pause):
            try:
                pause = self._round()
            except Afu9Error as error:
                log.warning("direct: %s", error)
                pause = 1.0
            except Exception:  # a thread that ends would leave this worker deaf until Redis is back
                log.exception("direct: unexpected fault, going on")
                pause = 1.0

    def _round(self) -> float:
        if self._broker.draining or not 0 < self._after <= self._broker.health.away_for():
            if self._under_way:
                log.warning("direct: Redis is back, steps come as messages again")
            self._under_way = False
            return LOOK
        if not self._under_way:
            log.warning("direct: Redis has been away for %.0f s, steps are taken from PostgreSQL", self._after)
            ring_for_all(self._pool)
            self._under_way = True
        free = self._worker.worker_threads - self._broker.load()
        if free <= 0:
            return BUSY
        taken = run(self._pool, "take_steps", {"limit": free})
        for row in taken:
            message = step_message(ReadyStep(row["step_id"], row["attempt"]))  # no redis_message_id: nothing to settle
            self._worker.consumers[STEP_QUEUE].handle_message(MessageProxy(message))
        return BUSY if taken else LOOK
