"""The middleware that tells the tracer which message a thread is busy with. A worker has it only if it traces.

Messages that a worker delivers inside the process, handed steps and those taken from PostgreSQL, never were in a queue: they
have no span of their own.
"""

from __future__ import annotations

from typing import Any

from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Middleware

from orchestrator.push import STEP_QUEUE
from orchestrator.spans import Spans
from workers.run_step import AttemptFailed


class TraceMessages(Middleware):
    """Stands outside of the retry middleware, so that a span ends after the charge."""

    def __init__(self, spans: Spans):
        self._spans = spans

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if message.queue_name == STEP_QUEUE and "redis_message_id" in message.options:
            self._spans.received(message.queue_name, message.message_id, message.options)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        self._spans.processed(None if isinstance(exception, AttemptFailed) else exception)
