"""A step's trip through a worker: claim, attempt, record, and on with the next.

Success and skip are recorded here. A failure leaves as AttemptFailed, and the retry middleware charges it; a fault of
ours leaves as whatever it is, and is charged there too. Nothing here depends on the message being the only one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import lru_cache, partial
from uuid import UUID

from orchestrator import trace
from orchestrator.advance import Attempt, Recorder
from orchestrator.attempt_step import Admit, ToolCaller, attempt_step
from orchestrator.broker import StepBroker
from orchestrator.count_ends import seconds_since
from orchestrator.metrics import EXECUTION_START_DELAY
from orchestrator.outcome import Failed, Skipped, Succeeded
from orchestrator.plan import Plan, plan_for
from orchestrator.price import over_limit
from orchestrator.push import STEP_QUEUE
from persistence.errors import Afu9Error, InvalidInput, NotFound
from persistence.gather import Gather
from persistence.pool import Pool, run
from persistence.transitions import (
    Claim,
    Completion,
    ReadyStep,
    Transition,
    claim_step,
    claim_steps,
    complete_steps,
    reserve_cost,
)
from persistence.write_log import BUSY_WITH, about
from workers.in_flight import Handed, InFlight
from workers.work_queue import WorkQueue

log = logging.getLogger(__name__)

SHORTEST_TIMEOUT_MS = 120_000  # of the deadline in the row, for steps that set none: never below a server's timeout
GRACE = 25.0  # seconds after the timeout in which a result may still be recorded; claim_steps grants 30

STOPPING = "the worker stops"
NOBODY = UUID(int=0)


class AttemptFailed(Afu9Error):
    """An attempt ended in a failure that is to be charged."""

    def __init__(self, attempt: Attempt):
        self.attempt = attempt
        super().__init__(f"step {attempt.step.name}, attempt {attempt.claim.attempt}: {attempt.outcome}")


class StepRunner:
    """Runs steps for one worker. `broker` is None where the caller runs the ready steps itself; `queue` is the worker's own,
    if it goes on with a sequence by itself."""

    def __init__(
        self,
        pool: Pool,
        broker: StepBroker | None,
        tools: ToolCaller,
        worker_id: UUID,
        in_flight: InFlight,
        queue: WorkQueue | None = None,
    ):
        self.pool = pool
        self.in_flight = in_flight
        self._tools = tools
        self._timeout_ms = max(SHORTEST_TIMEOUT_MS, round(tools.longest_call_seconds * 1000))
        self._worker_id = worker_id
        self._queue = queue
        self._away = queue.away if queue is not None else nullcontext
        self.recorder = Recorder(pool, broker, worker_id, self._timeout_ms, queue)
        if queue is not None:
            queue.pending = self.recorder.pending
        self._claim = Gather(self._claim_together, self._claim_alone, lambda step: step.step_id)
        self._plan = lru_cache(maxsize=256)(self._load_plan)

    def warm_up(self, connections: int) -> None:
        """Lets that many connections learn the statements of a step, so that the first step need not wait for it."""
        nothing = Claim(NOBODY, 0, NOBODY, 0, "", {}, 0)
        for _ in range(connections):
            claim_steps(self.pool, [ReadyStep(NOBODY, 0)], self._worker_id, self._timeout_ms)
            complete_steps(self.pool, [Completion(nothing, "null", "null")], self._worker_id, self._timeout_ms)

    def run_step(self, step: ReadyStep, *, hand_over: bool = False) -> Transition | None:
        """Runs one attempt, which the caller has registered in `in_flight`, and records it; None if it was not ours to
        take. `hand_over`: the caller goes on with the successor. Raises AttemptFailed, and Unreachable if the process
        stops while PostgreSQL is away."""
        attempt = self._attempt(step, self.in_flight.take_handed(step))
        return self.recorder.advance(attempt, hand_over=hand_over) if attempt is not None else None

    def work_on(self, step: ReadyStep) -> None:
        """The same for a thread of a worker: the result is recorded with those of other threads, soon, and the successor
        comes through the worker's queue."""
        handed = self.in_flight.take_handed(step)
        attempt = self._attempt(step, handed)
        if attempt is None:
            return
        if not isinstance(attempt.outcome, Succeeded | Skipped):
            self.recorder.advance(attempt)
            return
        BUSY_WITH.set(None)  # this thread may record for others now
        try:
            self.recorder.send(attempt, self._successor(handed))
        except InvalidInput:  # what the tool was sent cannot be stored
            self.recorder.advance(attempt)

    def release_handed(self) -> None:
        """Hands back the steps that were claimed for this worker's queue and that no thread has begun."""
        for claim in self.in_flight.take_all_handed():
            try:
                self.recorder.release(claim, STOPPING)
            except Afu9Error as error:
                log.error(
                    "step %s: not handed back, the reaper will charge it: %s", claim.step_id, error, extra=about(claim)
                )

    def _attempt(self, step: ReadyStep, handed: Handed | None) -> Attempt | None:
        if handed is not None and self.in_flight.closed.is_set():
            self.recorder.release(handed.claim, STOPPING)
            return None
        claim = handed.claim if handed is not None else self._claimed(step)
        if claim is None:
            return None
        if trace.on is not None:
            trace.on.claimed(claim)
        if claim.step_index == 0 and claim.attempt == 1:
            EXECUTION_START_DELAY.add(seconds_since(claim.step_id), STEP_QUEUE)
        planned = self._plan(claim.definition_hash).steps[claim.step_index]
        BUSY_WITH.set((claim, planned.name))
        held_until = time.monotonic() + (planned.timeout_ms or self._timeout_ms) / 1000 + GRACE
        cancelled = self.in_flight.cancelled(step)
        attempt = attempt_step(claim, planned, self._tools, cancelled, held_until, self._limit(claim))
        if attempt.cost is not None and attempt.cost.nanos is None:
            log.info(
                "step %s: the price of this call of %s is unknown: %s", claim.step_id, planned.tool, attempt.cost.why
            )
        if isinstance(attempt.outcome, Failed):
            raise AttemptFailed(attempt)
        if attempt.pause is not None:
            self._pause(attempt)
        return attempt

    def _pause(self, attempt: Attempt) -> None:
        """Before the step is recorded: should this process die in between, the step is charged, and the execution waits for a
        person all the same."""
        parameters = {
            "execution_id": attempt.claim.execution_id,
            "actor": f"step {attempt.step.name}",
            "reason": attempt.pause,
        }
        run(self.pool, "pause_execution", parameters, patience=attempt.patience)

    def _limit(self, claim: Claim) -> Admit | None:
        """Asks whether a call may be made, of an execution that has a limit of cost."""
        return partial(self._admit, claim) if claim.max_cost_nanos is not None else None

    def _admit(self, claim: Claim, known_nanos: int) -> Failed | None:
        with self._away():
            found = reserve_cost(self.pool, claim, known_nanos, patience=GRACE)
        if found["admitted"]:
            return None
        return over_limit(known_nanos, found["spent_nanos"] or 0, claim.max_cost_nanos or 0)

    def _claimed(self, step: ReadyStep) -> Claim | None:
        with self._away():
            return self._claim(step)

    def _successor(self, handed: Handed | None) -> Callable[[Claim], None] | None:
        """What goes on with the next step; None if it is for whoever comes."""
        queue, steps, since = self._queue, 1, time.monotonic()
        if handed is not None:
            steps, since = handed.steps + 1, handed.since
        if queue is None or self.in_flight.closed.is_set() or not queue.has_room_for(steps, since):
            return None

        def go_on(claim: Claim) -> None:
            if self.in_flight.closed.is_set():  # since the result was sent
                self.recorder.release(claim, STOPPING)
            else:
                queue.deliver(self.in_flight.hand(Handed(claim, steps, since)))

        return go_on

    def _claim_together(self, steps: Sequence[ReadyStep]) -> list[Claim | None]:
        return claim_steps(self.pool, steps, self._worker_id, self._timeout_ms)

    def _claim_alone(self, step: ReadyStep, _: Exception) -> Claim | None:
        """After a call whose answer was lost."""
        return claim_step(self.pool, step, self._worker_id, self._timeout_ms, halt=self.in_flight.closed, again=True)

    def _load_plan(self, digest: str) -> Plan:
        rows = run(self.pool, "get_definition", {"hash": digest}, patience=self._timeout_ms / 1000)
        if not rows:
            raise NotFound(f"no definition {digest}")
        return plan_for(digest, rows[0]["definition"].encode())
