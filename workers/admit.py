"""Decides whether a message may be run here: one thread per attempt, and none once the process drains.

It stands first in the list of middleware, so that it lets an attempt go only after the retry middleware has charged it.
"""

from __future__ import annotations

from typing import Any

from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Middleware, SkipMessage

from orchestrator.broker import StepBroker
from orchestrator.push import step_of
from persistence.errors import Unreachable
from workers.in_flight import InFlight


class Admission(Middleware):
    """A message that is not admitted goes back to the queue while the process drains; a double is dropped."""

    def __init__(self, in_flight: InFlight):
        self._in_flight = in_flight

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        step = step_of(message)
        if step is None or self._in_flight.begin(step):
            return
        self._hand_back(broker, message)
        raise SkipMessage("it is being run here already, or the worker stops")

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        if isinstance(exception, Unreachable):
            self._hand_back(broker, message)
        if (step := step_of(message)) is not None:
            self._in_flight.end(step)

    def _hand_back(self, broker: Broker, message: MessageProxy) -> None:
        if self._in_flight.closed.is_set() and isinstance(broker, StepBroker):
            broker.hand_back(message.queue_name, [message])
