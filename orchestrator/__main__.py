"""The orchestrator role: `python -m orchestrator` or `afu9 orchestrator`. Runs dispatcher and reaper until a signal."""

from __future__ import annotations

import logging
import signal
import sys
import threading

from orchestrator.broker import StepBroker
from orchestrator.measure import Measure
from orchestrator.recover import Recovery
from persistence.errors import Afu9Error, InvalidInput
from persistence.migrate import require_schema
from persistence.pool import open_pool
from persistence.settings import Settings


def orchestrate(settings: Settings, stopping: threading.Event) -> None:
    """Runs the recovery loops until `stopping` is set. Any number of orchestrators may run."""
    if not settings.redis_url:
        raise InvalidInput("no Redis is configured: set REDIS_URL, or use `afu9 dev`")
    with open_pool(settings.database_dsn, max_size=5) as pool:  # each loop has one
        require_schema(settings.database_dsn)
        measure = Measure(pool, settings)
        measure.start()
        broker = StepBroker(settings.redis_url, namespace=settings.namespace)
        recovery = Recovery(pool, broker, settings)
        recovery.start()
        logging.getLogger(__name__).info("orchestrator: dispatching and reaping")
        stopping.wait()
        recovery.stop()
        measure.stop()
        broker.close()


def main() -> int:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        settings = Settings.load()
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(message)s")
        orchestrate(settings, stopping)
    except Afu9Error as error:
        print(f"orchestrator: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
