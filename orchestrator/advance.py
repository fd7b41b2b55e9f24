"""The completion callback: records what an attempt came to, in one transaction, rings for what became ready and tells
watchers that the execution changed.

It runs in the worker that held the step. Completions of many threads are recorded together (persistence/group_commit.py); a
worker that goes on with a sequence is given the next step by the same call.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, assert_never
from uuid import UUID

from orchestrator.backoff import delay_seconds
from orchestrator.broker import StepBroker
from orchestrator.count_ends import count_attempt, count_charge
from orchestrator.outcome import Cancelled, Failed, Outcome, Skipped, Succeeded
from orchestrator.plan import PlannedStep
from orchestrator.price import Cost
from orchestrator.push import push_steps
from persistence import transitions
from persistence.errors import Afu9Error, InvalidInput
from persistence.group_commit import GroupCommit
from persistence.json_value import encode_json
from persistence.pool import Pool
from persistence.transitions import Claim, Completion, Transition
from persistence.write_log import about

log = logging.getLogger(__name__)

LONGEST_WISH = 300.0  # seconds of a server's Retry-After that are honoured


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that has ended: the claim, its step's plan, the params as they may be stored (None if it came to none),
    the settled outcome, its output as JSON text, and what it cost (None: not counted)."""

    claim: Claim
    step: PlannedStep
    params: object
    outcome: Outcome
    output: str = ""
    held_until: float = math.inf  # on this process's clock, how long it is tried while PostgreSQL is away
    pause: str | None = None  # why the execution is to be paused before this is recorded
    cost: Cost | None = None

    @property
    def unpriced(self) -> bool:
        """It called a tool, at a price nobody knows."""
        return self.cost is not None and self.cost.nanos is None

    @property
    def patience(self) -> float:
        """Seconds that are left of it."""
        return max(self.held_until - time.monotonic(), 0.0)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A completion that is recorded together with others, and who goes on with the successor."""

    completion: Completion
    attempt: Attempt
    go_on: Callable[[Claim], None] | None


class Together(Protocol):
    """Threads that share their commits: workers/work_queue.py."""

    def away(self) -> AbstractContextManager[None]:
        """Surrounds what waits for PostgreSQL."""
        ...

    def linger(self) -> None:
        """Before a commit: waits a moment where others will soon have something to record."""
        ...

    def look(self) -> None:
        """After a commit."""
        ...


class Alone:
    """One thread."""

    def away(self) -> AbstractContextManager[None]:
        return nullcontext()

    def linger(self) -> None:
        """Nobody will come."""

    def look(self) -> None:
        """Nobody waits."""


class Recorder:
    """Records for one worker. Without a broker the caller runs the steps that become ready. `together`: the threads
    whose results are recorded together."""

    def __init__(
        self,
        pool: Pool,
        broker: StepBroker | None,
        worker_id: UUID,
        timeout_ms: int,
        together: Together | None = None,
    ):
        self._pool = pool
        self._broker = broker
        self._worker_id = worker_id
        self._timeout_ms = timeout_ms
        self._together = together or Alone()
        self._commit = GroupCommit(
            self._complete_together,
            self._complete_alone,
            self._completed,
            key=_execution_of,
            linger=self._together.linger,
            settled=self._together.look,
        )

    def advance(self, attempt: Attempt, *, hand_over: bool = False) -> Transition:
        """Records the attempt and pushes what became ready. `hand_over`: this worker goes on with the next step of a
        sequence, which the answer then holds."""
        match attempt.outcome:
            case Succeeded() | Skipped():
                transition = self._complete(attempt, hand_over)
            case Failed() as failed:
                transition = self._charge(attempt, failed)
            case Cancelled(reason=reason):
                transition = transitions.release_step(
                    self._pool, attempt.claim, reason, unpriced=attempt.unpriced, patience=attempt.patience
                )
            case never:
                assert_never(never)
        self._count(attempt, transition)
        return self._ring([transition])[0]

    def send(self, attempt: Attempt, go_on: Callable[[Claim], None] | None) -> None:
        """The same for an attempt that ended well, together with those of other threads and without waiting for them.
        `go_on` gets the claimed successor after the commit; None if this worker does not go on. Raises InvalidJson."""
        completion = _completion(attempt, hand_over=go_on is not None)
        self._commit.send(_Sent(completion, attempt, go_on))

    def pending(self) -> int:
        """How many sent attempts are not recorded yet."""
        return self._commit.pending

    def charge_unexpected(self, step_id: UUID, attempt: int, message: str) -> Transition:
        """Charges an attempt that a fault of ours ended, so that it does not wait for the reaper."""
        transition = transitions.charge_step(
            self._pool,
            step_id,
            attempt,
            kind="engine_error",
            error=message,
            retryable=True,
            delay_ms=1000,
            params=None,
        )
        count_charge(self._pool, transition, "engine_error")
        return self._ring([transition])[0]

    def release(self, claim: Claim, reason: str) -> Transition:
        """Hands a step back, uncharged."""
        return self._ring([transitions.release_step(self._pool, claim, reason)])[0]

    def _ring(self, recorded: Sequence[Transition]) -> Sequence[Transition]:
        for transition in recorded:
            if not transition.recorded:
                log.warning(
                    "step %s: the attempt is no longer ours, its result is dropped",
                    transition.step_id,
                    extra={"step_id": transition.step_id},
                )
        if self._broker is not None:
            ready = [step for transition in recorded for step in transition.ready]
            with self._together.away() if ready else nullcontext():
                push_steps(self._broker, ready, changed=[transition.execution_id for transition in recorded])
        return recorded

    def _complete(self, attempt: Attempt, hand_over: bool, *, again: bool = False) -> Transition:
        try:
            completion = _completion(attempt, hand_over)
            return transitions.complete_step(self._pool, completion, self._worker_id, self._timeout_ms, again=again)
        except InvalidInput as error:  # a number of a hundred thousand digits, say
            return self._charge(attempt, Failed("invalid_response", str(error), "definite"))

    def _complete_together(self, sent: Sequence[_Sent]) -> list[Transition]:
        completions = [one.completion for one in sent]
        with self._together.away():
            return transitions.complete_steps(self._pool, completions, self._worker_id, self._timeout_ms)

    def _complete_alone(self, sent: _Sent) -> Transition | None:
        """After a call whose answer was lost, or in which one of many could not be stored."""
        try:
            with self._together.away():
                return self._complete(sent.attempt, sent.go_on is not None, again=True)
        except Afu9Error as error:
            claim = sent.attempt.claim
            log.error("step %s: not recorded, the reaper will charge it: %s", claim.step_id, error, extra=about(claim))
            return None

    def _completed(self, answered: Sequence[tuple[_Sent, Transition]]) -> None:
        try:
            self._ring([transition for _, transition in answered])
            for sent, transition in answered:
                if sent.go_on is not None and transition.successor is not None:
                    sent.go_on(transition.successor)
        finally:
            for sent, transition in answered:
                self._count(sent.attempt, transition)

    def _count(self, attempt: Attempt, transition: Transition) -> None:
        cost = attempt.cost.nanos if attempt.cost is not None else None
        count_attempt(self._pool, attempt.step, attempt.outcome, transition, cost)

    def _charge(self, attempt: Attempt, failed: Failed) -> Transition:
        step, claim = attempt.step, attempt.claim
        delay = retry_delay(failed, step, claim.retries_so_far)
        return transitions.charge_step(
            self._pool,
            claim.step_id,
            claim.attempt,
            kind=failed.kind,
            error=failed.message,
            retryable=is_retryable(failed, step),
            delay_ms=round(delay * 1000),
            params=None if attempt.params is None else encode_json(attempt.params),
            cost_nanos=attempt.cost.nanos if attempt.cost is not None else None,
            unpriced=attempt.unpriced,
            patience=attempt.patience,
        )


def _completion(attempt: Attempt, hand_over: bool) -> Completion:
    if isinstance(attempt.outcome, Skipped):
        return Completion(attempt.claim, None, None, hand_over, attempt.held_until)
    params = None if attempt.params is None else encode_json(attempt.params)
    if attempt.cost is None:
        return Completion(attempt.claim, attempt.output, params, hand_over, attempt.held_until)
    return Completion(attempt.claim, attempt.output, params, hand_over, attempt.held_until, True, attempt.cost.nanos)


def _execution_of(sent: _Sent) -> UUID:
    return sent.completion.claim.execution_id


def retry_delay(failed: Failed, step: PlannedStep, retries_so_far: int) -> float:
    """Seconds until the next attempt: the step's own delay, or the server's wish where that is longer."""
    return max(delay_seconds(step.retry, retries_so_far), min(failed.retry_after or 0.0, LONGEST_WISH))


def is_retryable(failed: Failed, step: PlannedStep) -> bool:
    """Whether another attempt can help, retries left or not: a call that did not run, one that may have run and may run
    twice (settle.py has sorted out the others), and the definite failures that the step names."""
    return failed.failure != "definite" or failed.kind in step.retry_on
