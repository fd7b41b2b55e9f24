"""Runs a Dramatiq worker in this process until told to stop: one process, no forks, signals stay with the caller."""

from __future__ import annotations

import dramatiq

from persistence.settings import Settings
from workers.actor import make_broker
from workers.process import WorkerProcess

IDLE_MS = 500  # how long an idle thread or consumer sleeps before it looks whether it is to stop


class Served:
    """A running worker. `stop()` lets running steps end within the drain time and hands the rest back. `watched`: it may
    end the whole process when it can no longer work (workers/watch.py)."""

    def __init__(self, settings: Settings, *, watched: bool = True):
        self._drain_ms = round(settings.drain_seconds * 1000)
        self._process = WorkerProcess(settings, watched=watched)
        self._broker = make_broker(settings, self._process)
        self._worker = dramatiq.Worker(self._broker, worker_threads=settings.threads, worker_timeout=IDLE_MS)
        self._worker.start()

    def stop(self) -> None:
        self._worker.stop(timeout=self._drain_ms)
        self._broker.close()
