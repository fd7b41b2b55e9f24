"""Counts what a recorded attempt came to, and traces the end of an execution. Called after the commit, with what the
transition answered."""

from __future__ import annotations

import time
from typing import Final
from uuid import UUID

from orchestrator import trace
from orchestrator.metrics import (
    COST,
    EXECUTION_DURATION,
    EXECUTIONS_FINISHED,
    LEASE_LOST,
    STEP_RETRIES,
    STEPS_FINISHED,
)
from orchestrator.outcome import Cancelled, Failed, Outcome, Skipped, Succeeded
from orchestrator.plan import UNNAMED, PlannedStep
from persistence.pool import Pool
from persistence.transitions import Transition

OK: Final = "ok"
INVALID: Final = frozenset(
    {
        "invalid_params",
        "secret_not_found",
        "server_not_configured",
        "tool_not_allowed",
        "tool_not_found",
        "cost_limit",
        "output_too_large",
    }
)
OURS: Final = frozenset({"engine_error", "worker_lost"})


def reason_of(kind: str) -> str:
    """The reason that a kind of failure counts as: what people would do about it is the same."""
    if kind in INVALID:
        return "invalid"
    if kind in OURS:
        return "engine_error"
    return kind if kind in ("timeout", "outcome_unknown") else "tool_error"


def outcome_reason(outcome: Outcome) -> str:
    match outcome:
        case Succeeded() | Skipped():
            return OK
        case Failed(kind=kind):
            return reason_of(kind)
        case Cancelled():
            return "cancelled"


def count_attempt(
    pool: Pool, step: PlannedStep, outcome: Outcome, transition: Transition, cost_nanos: int | None
) -> None:
    """An attempt whose plan is known."""
    if not transition.recorded:
        LEASE_LOST.add(1)
        return
    if cost_nanos and not isinstance(outcome, Cancelled):
        COST.add(cost_nanos / 1e9, step.workflow, step.server, step.tool_name)
    reason = outcome_reason(outcome)
    if reason == OK and transition.step_status not in ("completed", "skipped"):
        reason = "tool_error"  # its result could not be stored
    count_step(step.workflow, step.name, transition.step_status, reason)
    if transition.ended or (transition.execution_status == "completed" and not step.successors):
        status, ended = transition.execution_status, transition.execution_id
        count_execution(pool, ended, step.workflow, status, reason, transition.step_id)


def count_charge(pool: Pool, transition: Transition, reason: str) -> None:
    """An attempt that is known by its rows alone."""
    if transition.recorded:
        workflow = transition.workflow or UNNAMED
        count_step(workflow, transition.step_name, transition.step_status, reason)
        if transition.ended:
            status, ended = transition.execution_status, transition.execution_id
            count_execution(pool, ended, workflow, status, reason, transition.step_id)


def count_step(workflow: str, step: str, status: str, reason: str) -> None:
    """A step that ended, or that is tried again. One that was handed back counts for nothing."""
    if status != "pending":
        STEPS_FINISHED.add(1, workflow, step, status, reason)
    elif reason != "cancelled":
        STEP_RETRIES.add(1, workflow, step, reason)


def count_execution(
    pool: Pool, execution_id: UUID | None, workflow: str, status: str, reason: str, step_id: UUID | None = None
) -> None:
    """An execution that came to its end. With continueOnError it completes whatever its last step came to."""
    reason = OK if status == "completed" else reason
    EXECUTIONS_FINISHED.add(1, workflow, status, reason)
    if trace.on is not None and execution_id is not None:
        trace.on.execution_ended(pool, execution_id, workflow, status, reason)
    if step_id is not None:
        EXECUTION_DURATION.add(seconds_since(step_id), workflow)


def seconds_since(step_id: UUID) -> float:
    """Since the step was made, which is when its execution was started: its id begins with that time, by the database's
    clock, in milliseconds."""
    return max(time.time() - (step_id.int >> 80) / 1000, 0.0)
