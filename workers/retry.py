"""The retry middleware: charges what failed, through the same statement the reaper uses.

It never raises and never enqueues a retry: a charged step is pending with a due time, and the dispatcher pushes it then.
A hook that runs twice, or beside the reaper, finds its attempt charged already and changes nothing.
"""

from __future__ import annotations

import logging
from typing import Any

from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Middleware

from orchestrator.push import step_of
from persistence.errors import SchemaMismatch, Unreachable
from workers.process import WorkerProcess
from workers.run_step import AttemptFailed

log = logging.getLogger(__name__)


class RetryMiddleware(Middleware):
    """Increments retry_count, once per failed attempt."""

    actor_options = {"throws"}  # noqa: RUF012  # Dramatiq's name for "this exception is no fault of the program"

    def __init__(self, process: WorkerProcess):
        self._process = process

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        if exception is None:
            return
        try:
            self._charge(message, exception)
        except Exception:  # the step's deadline covers what could not be charged here
            log.exception("message %s: the failure could not be charged; the reaper will", message.message_id)

    def _charge(self, message: MessageProxy, exception: BaseException) -> None:
        recorder = self._process.runner.recorder
        match exception:
            case AttemptFailed(attempt=attempt):
                recorder.advance(attempt)
            case Unreachable():
                log.error(
                    "message %s: not claimed or not recorded: %s; it will be taken up again",
                    message.message_id,
                    exception,
                )
            case SchemaMismatch():
                self._process.give_up(str(exception))
            case _ if (step := step_of(message)) is None:
                log.error("message %s goes to the dead letters: %s", message.message_id, self._told(exception))
                message.fail()
            case _:
                recorder.charge_unexpected(step.step_id, step.attempt + 1, self._told(exception))

    def _told(self, exception: BaseException) -> str:
        return self._process.tools.secrets.redact_text(f"unexpected {type(exception).__name__}: {exception}")
