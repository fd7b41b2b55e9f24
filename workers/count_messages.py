"""Measures how long messages wait, as a Dramatiq middleware: from their push to the thread that takes them.

Both times are of the machines' own clocks: what two clocks differ by is in the figure. Steps that a worker hands to itself
come from no queue and are not measured.
"""

from __future__ import annotations

import time

from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Middleware

from orchestrator.metrics import MESSAGE_WAIT


class CountMessages(Middleware):
    """Stands behind Admission, so that a message that is refused is not measured."""

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if "redis_message_id" in message.options:
            waited = time.time() - message.message_timestamp / 1000
            MESSAGE_WAIT.add(max(waited, 0.0), message.queue_name)
