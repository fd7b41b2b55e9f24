"""A step's trip through a worker: claim, attempt, record.

Success and skip are recorded here. A failure leaves as AttemptFailed, and the retry middleware charges it; a fault of
ours leaves as whatever it is, and is charged there too. Nothing here depends on the message being the only one.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache
from typing import assert_never
from uuid import UUID

from orchestrator.advance import Attempt, advance
from orchestrator.attempt_step import ToolCaller, attempt_step
from orchestrator.broker import StepBroker
from orchestrator.outcome import Cancelled, Failed, Skipped, Succeeded
from orchestrator.plan import Plan, plan_for
from persistence.errors import Afu9Error, NotFound
from persistence.pool import Pool, run
from persistence.transitions import ReadyStep, Transition, claim_step
from workers.in_flight import InFlight

SHORTEST_TIMEOUT_MS = 120_000  # of the deadline in the row, for steps that set none: never below a server's timeout
GRACE = 25.0  # seconds after the timeout in which a result may still be recorded; claim_step grants 30


class AttemptFailed(Afu9Error):
    """An attempt ended in a failure that is to be charged."""

    def __init__(self, attempt: Attempt):
        self.attempt = attempt
        super().__init__(f"step {attempt.step.name}, attempt {attempt.claim.attempt}: {attempt.outcome}")


class StepRunner:
    """Runs steps for one worker. `broker` is None where the caller runs the ready steps itself."""

    def __init__(self, pool: Pool, broker: StepBroker | None, tools: ToolCaller, worker_id: UUID, in_flight: InFlight):
        self.pool = pool
        self.broker = broker
        self.in_flight = in_flight
        self._tools = tools
        self._timeout_ms = max(SHORTEST_TIMEOUT_MS, round(tools.longest_call_seconds * 1000))
        self._worker_id = worker_id
        self._plan = lru_cache(maxsize=256)(self._load_plan)

    def run_step(self, step: ReadyStep) -> Transition | None:
        """Runs one attempt, which the caller has registered in `in_flight`; None if it was not ours to take. Raises
        AttemptFailed, and Unreachable if the process stops while PostgreSQL is away."""
        claim = claim_step(self.pool, step, self._worker_id, self._timeout_ms, halt=self.in_flight.closed)
        if claim is None:
            return None
        begin = time.monotonic()
        planned = self._plan(claim.definition_hash).steps[claim.step_index]
        attempt = attempt_step(claim, planned, self._tools, self.in_flight.cancelled(step))
        seconds = (planned.timeout_ms or self._timeout_ms) / 1000
        return self._record(replace(attempt, patience=max(begin + seconds + GRACE - time.monotonic(), 0.0)))

    def _record(self, attempt: Attempt) -> Transition:
        match attempt.outcome:
            case Succeeded() | Skipped() | Cancelled():
                return advance(self.pool, self.broker, [attempt])[0]
            case Failed():
                raise AttemptFailed(attempt)
            case never:
                assert_never(never)

    def _load_plan(self, digest: str) -> Plan:
        rows = run(self.pool, "get_definition", {"hash": digest}, patience=self._timeout_ms / 1000)
        if not rows:
            raise NotFound(f"no definition {digest}")
        return plan_for(digest, rows[0]["definition"].encode())
