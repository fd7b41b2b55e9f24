"""Starts from messages: any Dramatiq producer may enqueue `start_workflow(name, input, idempotency_key)` on `afu9.start`.

Unlike a step's message, this one is all there is of the wish until its execution is a row. So it is settled only after the
commit, waits for PostgreSQL for as long as that takes, and counts as one start however often it is delivered: without a key
of its own, its message id is the key.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from dramatiq.middleware import CurrentMessage

from orchestrator.metrics import EXECUTIONS_STARTED
from persistence.errors import Afu9Error, InvalidInput
from persistence.json_value import encode_json
from persistence.pool import run
from workers.process import WorkerProcess

log = logging.getLogger(__name__)

START_ACTOR = "start_workflow"
LONGEST_KEY = 255


class StartRefused(Afu9Error):
    """A message that can never start anything: it goes to the dead letters."""


def start(process: WorkerProcess, name: object, wanted: object, idempotency_key: object) -> None:
    """Raises StartRefused, and Unreachable if the process stops while PostgreSQL is away."""
    message = CurrentMessage.get_current_message()
    if not isinstance(name, str) or not isinstance(wanted, dict):
        raise StartRefused("start_workflow takes a name, an object and, if need be, an idempotency key")
    key = f"message:{message.message_id}" if idempotency_key is None and message else idempotency_key
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY:
        raise StartRefused(f"an idempotency key is a text of 1 to {LONGEST_KEY} characters")
    parameters: dict[str, Any] = {"name": name, "idempotency_key": key, "triggered_by": "message"}
    try:
        parameters["input"] = encode_json(wanted, what="the input")
        runner = process.runner
        rows = run(runner.pool, "start_workflow", parameters, patience=math.inf, halt=runner.in_flight.closed)
    except InvalidInput as error:
        raise StartRefused(str(error)) from error
    if rows[0]["created"]:
        EXECUTIONS_STARTED.add(1, name)
    log.info("message %s: started %s", message.message_id if message else "?", rows[0]["id"])
