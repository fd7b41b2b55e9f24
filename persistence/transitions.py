"""The transitions of schema.sql, as Python calls: one round trip and one transaction each.

A transition answers what the caller must do next: which steps became ready (to be pushed after this call, that is after
the commit) and how the execution stands. `recorded` is false when the attempt no longer holds the step: another
process has taken over, and the caller drops its result.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from persistence.errors import Disabled, NotFound, Unreachable
from persistence.json_value import encode_json
from persistence.pool import Pool, run

log = logging.getLogger(__name__)

CLAIM_TRIES = 3  # the connection broke during each


@dataclass(frozen=True, slots=True)
class ReadyStep:
    """A step to push: its id, and the attempt count its claim must find."""

    step_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A step taken. `scope` holds the values its templates name; `retries_so_far` counts the tool's failures."""

    step_id: UUID
    attempt: int
    execution_id: UUID
    step_index: int
    definition_hash: str
    scope: dict[str, Any]
    retries_so_far: int


@dataclass(frozen=True, slots=True)
class Transition:
    """What a transition did. `step_status` and `execution_status` are the statuses after it."""

    step_id: UUID
    recorded: bool
    step_status: str
    execution_id: UUID | None
    execution_status: str
    ready: tuple[ReadyStep, ...]


@dataclass(frozen=True, slots=True)
class Submitted:
    """One request's execution; `created` is false when its idempotency key (or id) named an earlier one."""

    execution_id: UUID
    created: bool
    ready: tuple[ReadyStep, ...]


def register_definition(pool: Pool, definition_hash: str, definition: str, plan: str) -> None:
    """Stores a definition (JSON text) and its plan once, by hash."""
    run(pool, "register_definition", {"hash": definition_hash, "definition": definition, "plan": plan})


def register_workflow(pool: Pool, name: str, definition_hash: str, description: str | None) -> DictRow:
    """The workflow's newest version, made if the definition is not that one's: id, version, enabled, created."""
    parameters = {"name": name, "hash": definition_hash, "description": description}
    return run(pool, "register_workflow", parameters)[0]


def submit_executions(
    pool: Pool, definition_hash: str, requests: Sequence[dict[str, Any]], workflow_id: UUID | None = None
) -> list[Submitted]:
    """Creates one execution with all its steps per request, in one statement. A request has id, input, context and
    optionally title, triggered_by, github_run_id, idempotency_key. Raises InvalidJson for what jsonb cannot hold."""
    parameters = {
        "hash": definition_hash,
        "requests": encode_json(list(requests), what="the submission"),
        "workflow_id": workflow_id,
    }
    return [_submitted(row) for row in run(pool, "submit_executions", parameters)]


def submit_named(pool: Pool, name: str, requests: Sequence[dict[str, Any]]) -> tuple[UUID, list[Submitted]]:
    """The same for a registered workflow's newest version; its id too. Raises NotFound, Disabled."""
    parameters = {"name": name, "requests": encode_json(list(requests), what="the submission")}
    rows = run(pool, "submit_named", parameters)
    if not rows:
        raise NotFound(f"no workflow is named {name}")
    if not rows[0]["enabled"]:
        raise Disabled(f"{name} is disabled: nothing was started")
    return rows[0]["workflow_id"], [_submitted(row) for row in rows]


def _submitted(row: DictRow) -> Submitted:
    return Submitted(row["execution_id"], row["created"], tuple(ReadyStep(step, 0) for step in row["ready_steps"]))


def claim_step(
    pool: Pool, step: ReadyStep, worker_id: UUID, timeout_ms: int, *, halt: threading.Event | None = None
) -> Claim | None:
    """Takes the step for this worker, or answers None: someone else has it, it is not due, or its execution rests.

    Waits for as long as PostgreSQL is away, until `halt` is set: then raises Unreachable. A claim whose answer was lost
    is asked for again, so that its step does not wait in the hands of a worker that does not know it; the caller sees to
    it that no other thread of this worker claims the same attempt meanwhile.

    timeout_ms: how long the attempt may take when the step sets no timeoutMs of its own.
    """
    parameters = {"step_id": step.step_id, "attempt": step.attempt, "worker_id": worker_id, "timeout_ms": timeout_ms}
    for _ in range(CLAIM_TRIES):
        try:
            rows = run(pool, "claim_step", parameters, patience=None)
            return Claim(step_id=step.step_id, **rows[0]) if rows else None
        except Unreachable as error:
            log.warning("database: %s; asking whether step %s is ours", error, step.step_id)
            if rows := run(pool, "claim_again", parameters, patience=math.inf if halt else 0.0, halt=halt):
                return Claim(step_id=step.step_id, **rows[0])
    raise Unreachable(f"PostgreSQL: step {step.step_id} could not be claimed in {CLAIM_TRIES} tries")


def complete_step(pool: Pool, claim: Claim, output: str, params: str, *, patience: float = 0.0) -> Transition:
    """running -> completed. `output` and `params` are JSON text."""
    parameters = {"step_id": claim.step_id, "attempt": claim.attempt, "output": output, "input": params}
    return _transition(claim.step_id, run(pool, "complete_step", parameters, patience=patience))


def skip_step(pool: Pool, claim: Claim, *, patience: float = 0.0) -> Transition:
    """running -> skipped."""
    parameters = {"step_id": claim.step_id, "attempt": claim.attempt}
    return _transition(claim.step_id, run(pool, "skip_step", parameters, patience=patience))


def charge_step(
    pool: Pool,
    step_id: UUID,
    attempt: int,
    *,
    kind: str,
    error: str,
    retryable: bool,
    delay_ms: int,
    params: str | None,
    patience: float = 0.0,
) -> Transition:
    """running -> pending after `delay_ms`, or failed. Raises retry_count once per attempt."""
    parameters = {
        "step_id": step_id,
        "attempt": attempt,
        "kind": kind,
        "error": error.replace("\0", "\\0"),
        "retryable": retryable,
        "delay_ms": delay_ms,
        "input": params,
    }
    return _transition(step_id, run(pool, "charge_step", parameters, patience=patience))


def release_step(pool: Pool, claim: Claim, reason: str, *, patience: float = 0.0) -> Transition:
    """running -> pending, uncharged."""
    parameters = {"step_id": claim.step_id, "attempt": claim.attempt, "reason": reason}
    return _transition(claim.step_id, run(pool, "release_step", parameters, patience=patience))


def _transition(step_id: UUID, rows: list[DictRow]) -> Transition:
    row = rows[0]
    return Transition(
        step_id=step_id,
        recorded=row["recorded"],
        step_status=row["step_status"] or "",
        execution_id=row["execution_id"],
        execution_status=row["execution_status"] or "",
        ready=ready_steps(row),
    )


def ready_steps(row: DictRow) -> tuple[ReadyStep, ...]:
    """The parallel arrays of an answer, as steps."""
    return tuple(map(ReadyStep, row["ready_steps"] or (), row["ready_attempts"] or ()))
