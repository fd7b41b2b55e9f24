"""How a worker stops: no claim from the first moment on, unread messages back at once, running calls get their time.

What has not ended by then is cancelled and handed back, uncharged. The whole takes the drain time at most, plus the half
second in which an idle thread notices.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from queue import Empty

import dramatiq

from orchestrator.broker import StepBroker
from workers.in_flight import InFlight
from workers.run_step import StepRunner

log = logging.getLogger(__name__)

FOR_CALLS = 0.8  # of the drain time; the rest is for handing back


def drain(worker: dramatiq.Worker, broker: StepBroker, runner: StepRunner, seconds: float) -> None:
    """Returns when every worker thread has ended, or the time is over. Waits here, because Dramatiq's own wait for its
    threads counts the time of the first ones again for each."""
    try:
        _let_end(worker, broker, runner.in_flight, seconds)
    finally:
        runner.release_handed()


def _let_end(worker: dramatiq.Worker, broker: StepBroker, in_flight: InFlight, seconds: float) -> None:
    begin = time.monotonic()
    broker.draining = True
    in_flight.close()
    for thread in worker.workers:
        thread.stop()

    def all_ended() -> bool:
        _return_unread(worker, broker)
        return not any(thread.is_alive() for thread in worker.workers)

    if _wait(all_ended, begin + FOR_CALLS * seconds):
        return
    log.warning("handing %d running steps back", in_flight.cancel_all())
    _wait(all_ended, begin + seconds)


def _return_unread(worker: dramatiq.Worker, broker: StepBroker) -> None:
    """Messages that no thread has taken, also those that a fetch under way still brings."""
    unread = []
    while True:
        try:
            unread.append(worker.work_queue.get_nowait().message)
        except Empty:
            break
    for queue_name in {message.queue_name for message in unread}:
        broker.hand_back(queue_name, [message for message in unread if message.queue_name == queue_name])


def _wait(done: Callable[[], bool], until: float) -> bool:
    while not done():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
