"""The end of an attempt: what its outcome means for the ledger.

An output that cannot be stored, or is too large for a step that must not lose any of it, is a failure; a call that may
have run and must not run twice is one for a person to decide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import assert_never

from orchestrator.outcome import Cancelled, Failed, Outcome, Skipped, Succeeded
from orchestrator.plan import PlannedStep
from persistence.json_value import InvalidJson, encode_json

OUTCOME_UNKNOWN = "outcome_unknown"


def settle(
    outcome: Outcome, step: PlannedStep, *, may_repeat: Callable[[], bool], max_output_bytes: int
) -> tuple[Outcome, str]:
    """The outcome to record, and the output as JSON text ("" where there is none). `may_repeat` is asked only about a
    call that may have run."""
    match outcome:
        case Succeeded(output=output):
            return _stored(outcome, output, step, max_output_bytes)
        case Failed(failure="unknown") if not may_repeat():
            return _undecided(outcome.message), ""
        case Cancelled(reason=reason, failure="unknown") if not may_repeat():
            return _undecided(reason), ""
        case Failed() | Cancelled() | Skipped():
            return outcome, ""
        case never:
            assert_never(never)


def _undecided(message: str) -> Failed:
    told = f"{message}; the tool may have run, and it is not known to be safe to run twice"
    return Failed(OUTCOME_UNKNOWN, told, "definite")


def _stored(succeeded: Succeeded, output: object, step: PlannedStep, limit: int) -> tuple[Outcome, str]:
    try:
        text = encode_json(output, what="the tool's result")
    except InvalidJson as error:
        return Failed("invalid_response", str(error), "definite"), ""
    size = len(text.encode())
    if size <= limit:
        return succeeded, text
    if step.on_large_output == "fail":
        return Failed("output_too_large", f"the tool's result has {size} bytes, a step stores {limit}", "definite"), ""
    marker = {"truncated": True, "size": size, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return Succeeded(marker, succeeded.meta), encode_json(marker)
