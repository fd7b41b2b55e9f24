"""What must be zero, as metrics: executions that nothing will move, and how late the oldest message is.

Measured by a thread of its own every 15 s; a scrape reads what was measured and asks nobody. While PostgreSQL is away the
figures stay as they were and `afu9_measured_at_seconds` stands still: alert on `time() - afu9_measured_at_seconds > 60`.
Every orchestrator measures the whole fleet: take max over instances, never sum.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from persistence.errors import Afu9Error
from persistence.pool import Pool, run
from persistence.settings import Settings

log = logging.getLogger(__name__)

EVERY_SECONDS = 15.0
MOST_STUCK = 1000  # more are counted as so many


class Measured(NamedTuple):
    stuck: int
    outbox_seconds: float
    at: float  # seconds since 1970


class Measure(Collector):
    """Serves /metrics from `start()` to `stop()`; with AFU9_METRICS_PORT 0 it does nothing."""

    def __init__(self, pool: Pool, settings: Settings, every: float = EVERY_SECONDS):
        self._pool = pool
        self._host, self._port = settings.metrics_host, settings.metrics_port
        self._every = every
        self._stopping = threading.Event()
        self._measured: Measured | None = None
        self._thread = threading.Thread(target=self._repeat, name="measure", daemon=True)

    def start(self) -> None:
        """Raises Afu9Error if the port cannot be had."""
        if not self._port:
            return
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        try:
            self._server, self._serving = start_http_server(self._port, self._host, registry)
        except OSError as error:
            raise Afu9Error(
                f"metrics cannot be served on {self._host}:{self._port} ({error.strerror or error}): "
                "set AFU9_METRICS_PORT to a free port, or to 0 for none"
            ) from None
        self._thread.start()
        log.info("metrics on http://%s:%d/metrics", self._host, self._port)

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._serving.join(timeout=10)
            self._thread.join(timeout=10)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Nothing before the first measurement: a zero would be a claim."""
        if (measured := self._measured) is None:
            return
        yield GaugeMetricFamily(
            "afu9_invariant_stuck", "Executions that nothing will move; must be 0.", value=measured.stuck
        )
        yield GaugeMetricFamily(
            "afu9_outbox_oldest_age_seconds", "How late the oldest overdue step is.", value=measured.outbox_seconds
        )
        yield GaugeMetricFamily(
            "afu9_measured_at_seconds", "When the figures above were taken, as Unix time.", value=measured.at
        )

    def _repeat(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = self._every
            try:
                stuck = len(run(self._pool, "stuck_executions", {"limit": MOST_STUCK}))
                self._measured = Measured(stuck, run(self._pool, "outbox_age")[0]["seconds"], time.time())
            except Afu9Error as error:
                log.warning("metrics stay as they were: %s", error)
            except Exception:  # a thread that ends would leave old figures for good
                log.exception("metrics: unexpected fault, going on")
