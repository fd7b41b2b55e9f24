"""The completion callback: records what an attempt came to, in one transaction, rings for what became ready and tells
watchers that the execution changed.

It runs in the worker that held the step. Recording takes a batch of outcomes and pushing takes a batch of steps, so that
both can be shared by many threads.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never
from uuid import UUID

from orchestrator.backoff import delay_seconds
from orchestrator.broker import StepBroker
from orchestrator.outcome import Cancelled, Failed, Outcome, Skipped, Succeeded
from orchestrator.plan import PlannedStep
from orchestrator.push import push_steps
from persistence import transitions
from persistence.errors import InvalidInput
from persistence.json_value import encode_json
from persistence.pool import Pool
from persistence.transitions import Claim, Transition

log = logging.getLogger(__name__)

LONGEST_WISH = 300.0  # seconds of a server's Retry-After that are honoured


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that has ended: the claim, its step's plan, the params as they may be stored (None if it came to none),
    the settled outcome, and its output as JSON text."""

    claim: Claim
    step: PlannedStep
    params: object
    outcome: Outcome
    output: str = ""
    patience: float = 30.0  # seconds that the result is held while PostgreSQL is away: to the step's deadline at most


def advance(pool: Pool, broker: StepBroker | None, attempts: Sequence[Attempt]) -> list[Transition]:
    """Records the attempts and pushes the steps that became ready. Without a broker the caller runs those itself."""
    recorded = [_record(pool, attempt) for attempt in attempts]
    if broker is not None:
        ready = [step for transition in recorded for step in transition.ready]
        push_steps(broker, ready, changed=[transition.execution_id for transition in recorded])
    return recorded


def _record(pool: Pool, attempt: Attempt) -> Transition:
    claim = attempt.claim
    match attempt.outcome:
        case Succeeded():
            transition = _complete(pool, attempt)
        case Skipped():
            transition = transitions.skip_step(pool, claim, patience=attempt.patience)
        case Failed() as failed:
            transition = _charge(pool, attempt, failed)
        case Cancelled(reason=reason):
            transition = transitions.release_step(pool, claim, reason, patience=attempt.patience)
        case never:
            assert_never(never)
    if not transition.recorded:
        log.warning("step %s: attempt %d is no longer ours, its result is dropped", claim.step_id, claim.attempt)
    return transition


def _complete(pool: Pool, attempt: Attempt) -> Transition:
    try:
        return transitions.complete_step(
            pool, attempt.claim, attempt.output, encode_json(attempt.params), patience=attempt.patience
        )
    except InvalidInput as error:  # a number of a hundred thousand digits, say
        return _charge(pool, attempt, Failed("invalid_response", str(error), "definite"))


def _charge(pool: Pool, attempt: Attempt, failed: Failed) -> Transition:
    step, claim = attempt.step, attempt.claim
    delay = retry_delay(failed, step, claim.retries_so_far)
    return transitions.charge_step(
        pool,
        claim.step_id,
        claim.attempt,
        kind=failed.kind,
        error=failed.message,
        retryable=is_retryable(failed, step),
        delay_ms=round(delay * 1000),
        params=None if attempt.params is None else encode_json(attempt.params),
        patience=attempt.patience,
    )


def charge_unexpected(pool: Pool, step_id: UUID, attempt: int, message: str) -> Transition:
    """Charges an attempt that a fault of ours ended, so that it does not wait for the reaper."""
    return transitions.charge_step(
        pool,
        step_id,
        attempt,
        kind="engine_error",
        error=message,
        retryable=True,
        delay_ms=1000,
        params=None,
    )


def retry_delay(failed: Failed, step: PlannedStep, retries_so_far: int) -> float:
    """Seconds until the next attempt: the step's own delay, or the server's wish where that is longer."""
    return max(delay_seconds(step.retry, retries_so_far), min(failed.retry_after or 0.0, LONGEST_WISH))


def is_retryable(failed: Failed, step: PlannedStep) -> bool:
    """Whether another attempt can help, retries left or not: a call that did not run, one that may have run and may run
    twice (settle.py has sorted out the others), and the definite failures that the step names."""
    return failed.failure != "definite" or failed.kind in step.retry_on
