"""The orchestrator role: `python -m orchestrator` or `afu9 orchestrator`. Runs dispatcher and reaper until a signal."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time

from orchestrator import trace
from orchestrator.broker import StepBroker
from orchestrator.measure import Fleet
from orchestrator.recover import Recovery
from orchestrator.serve_metrics import Exposition, MetricsServer, fleet_text, pool_gauges
from persistence.errors import Afu9Error, InvalidInput
from persistence.migrate import require_schema
from persistence.pool import open_pool
from persistence.settings import Settings
from persistence.write_log import begin_log


def orchestrate(settings: Settings, stopping: threading.Event) -> None:
    """Runs the recovery loops until `stopping` is set. Any number of orchestrators may run."""
    if not settings.redis_url:
        raise InvalidInput("no Redis is configured: set REDIS_URL, or use `afu9 dev`")
    with open_pool(settings.database_dsn, max_size=5) as pool:  # each loop has one
        require_schema(settings.database_dsn)
        broker = StepBroker(settings.redis_url, namespace=settings.namespace)
        recovery = Recovery(pool, broker, settings)
        fleet = Fleet(pool, broker, settings.lease_seconds)
        metrics = MetricsServer(
            settings,
            Exposition("orchestrator", lambda: pool_gauges({"recovery": pool})),
            checks=lambda: {"recovery": "ok" if recovery.hears() else "PostgreSQL does not answer"},
            fleet=lambda: fleet_text(fleet),
        )
        metrics.start()
        trace.begin("orchestrator")
        recovery.start()
        logging.getLogger(__name__).info("orchestrator: dispatching and reaping")
        stopping.wait()
        stopped_at = time.monotonic()
        metrics.begin_stop()
        recovery.stop()
        metrics.stop(stopped_at + settings.drain_seconds - time.monotonic())
        broker.close()
    trace.end()


def main() -> int:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        settings = Settings.load()
        begin_log(settings)
        orchestrate(settings, stopping)
    except Afu9Error as error:
        print(f"orchestrator: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
