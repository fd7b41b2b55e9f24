"""The transitions of schema.sql, as Python calls: one round trip and one transaction each.

A transition answers what the caller must do next: which steps became ready (to be pushed after this call, that is after
the commit) and how the execution stands. `recorded` is false when the attempt no longer holds the step: another
process has taken over, and the caller drops its result.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
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
    """A step to push: its id, and the attempt count its claim must find. `execution_id`: its execution, where known."""

    step_id: UUID
    attempt: int
    execution_id: UUID | None = field(default=None, compare=False)

    def __hash__(self) -> int:
        return self.step_id.int & 0x7FFFFFFFFFFFFFFF  # the random half


@dataclass(frozen=True, slots=True)
class Claim:
    """A step taken. `scope` holds the values its templates name; `retries_so_far` counts the tool's failures; `override` is
    what a person wants of this attempt: {"input": params}, {"output": value} or {"skip": true}; `max_cost_nanos` what its
    execution may cost, in nano-dollars."""

    step_id: UUID
    attempt: int
    execution_id: UUID
    step_index: int
    definition_hash: str
    scope: dict[str, Any]
    retries_so_far: int
    override: dict[str, Any] | None = None
    max_cost_nanos: int | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """What a transition did. `step_status` and `execution_status` are the statuses after it; `successor` was taken for
    the worker that goes on with it. Of a charge: whether it `ended` its execution, and whose step it was."""

    step_id: UUID
    recorded: bool
    step_status: str
    execution_id: UUID | None
    execution_status: str
    ready: tuple[ReadyStep, ...]
    successor: Claim | None = None
    ended: bool = False
    step_name: str = ""
    workflow: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """A step that ended well: output and params are JSON text, None for one whose condition was false. `hand_over`: its
    successor is wanted. `held_until`: on this process's clock, how long it is tried while PostgreSQL is away. `counted`: its
    cost is recorded, in nano-dollars; None: its price is not known."""

    claim: Claim
    output: str | None
    params: str | None
    hand_over: bool = False
    held_until: float = 0.0
    counted: bool = False
    cost_nanos: int | None = None


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
    return [_submitted(row) for row in run(pool, "submit_executions", parameters, prepare=True)]


def submit_named(pool: Pool, name: str, requests: Sequence[dict[str, Any]]) -> tuple[UUID, list[Submitted]]:
    """The same for a registered workflow's newest version; its id too. Raises NotFound, Disabled."""
    parameters = {"name": name, "requests": encode_json(list(requests), what="the submission")}
    rows = run(pool, "submit_named", parameters, prepare=True)
    if not rows:
        raise NotFound(f"no workflow is named {name}")
    if not rows[0]["enabled"]:
        raise Disabled(f"{name} is disabled: nothing was started")
    return rows[0]["workflow_id"], [_submitted(row) for row in rows]


def _submitted(row: DictRow) -> Submitted:
    execution_id = row["execution_id"]
    ready = tuple(ReadyStep(step, 0, execution_id) for step in row["ready_steps"])
    return Submitted(execution_id, row["created"], ready)


def claim_steps(pool: Pool, steps: Sequence[ReadyStep], worker_id: UUID, timeout_ms: int) -> list[Claim | None]:
    """Takes the steps for this worker; None for each that is not to be run: someone else has it, it is not due, or its
    execution rests. One try: raises Unreachable, and then each may have been taken.

    timeout_ms: how long an attempt may take when its step sets no timeoutMs of its own.
    """
    parameters = {
        "step_ids": [step.step_id for step in steps],
        "attempts": [step.attempt for step in steps],
        "worker_id": worker_id,
        "timeout_ms": timeout_ms,
    }
    taken = {row["step_id"]: Claim(**row) for row in run(pool, "claim_steps", parameters, patience=None, prepare=True)}
    return [taken.get(step.step_id) for step in steps]


def claim_step(
    pool: Pool,
    step: ReadyStep,
    worker_id: UUID,
    timeout_ms: int,
    *,
    halt: threading.Event | None = None,
    again: bool = False,
) -> Claim | None:
    """Takes one step, or answers None. Waits for as long as PostgreSQL is away, until `halt` is set: then raises
    Unreachable. A claim whose answer was lost (`again`: by an earlier call) is asked for, so that its step does not wait in
    the hands of a worker that does not know it; the caller sees to it that no other thread of this worker claims the same
    attempt meanwhile.
    """
    parameters = {"step_id": step.step_id, "attempt": step.attempt, "worker_id": worker_id}
    for _ in range(CLAIM_TRIES):
        if again and (rows := run(pool, "claim_again", parameters, patience=math.inf if halt else 0.0, halt=halt)):
            return Claim(**rows[0])
        try:
            return claim_steps(pool, [step], worker_id, timeout_ms)[0]
        except Unreachable as error:
            log.warning("database: %s; asking whether step %s is ours", error, step.step_id)
            again = True
    raise Unreachable(f"PostgreSQL: step {step.step_id} could not be claimed in {CLAIM_TRIES} tries")


def complete_steps(
    pool: Pool,
    completions: Sequence[Completion],
    worker_id: UUID,
    timeout_ms: int,
    *,
    again: bool = False,
    patience: float | None = None,
) -> list[Transition]:
    """running -> completed or skipped, all or none, and pending -> running of the successors that are wanted. At most one
    step of an execution. `again`: an earlier call's answer was lost. Raises InvalidInput for what jsonb cannot hold."""
    ordered = sorted(completions, key=lambda one: one.claim.execution_id)
    parameters = {
        "records": f"[{','.join(map(_record, ordered))}]",
        "worker_id": worker_id,
        "timeout_ms": timeout_ms,
        "again": again,
    }
    rows = run(pool, "complete_steps", parameters, patience=patience, prepare=True)
    found = {row["step_id"]: row for row in rows}
    return [_completed(one, found.get(one.claim.step_id)) for one in completions]


def complete_step(
    pool: Pool, completion: Completion, worker_id: UUID, timeout_ms: int, *, again: bool = False
) -> Transition:
    """The same for one step, tried for as long as it is held."""
    try:
        if not again:
            return complete_steps(pool, [completion], worker_id, timeout_ms)[0]
    except Unreachable as error:
        log.warning("database: %s; trying again", error)
    patience = max(completion.held_until - time.monotonic(), 0.0)
    return complete_steps(pool, [completion], worker_id, timeout_ms, again=True, patience=patience)[0]


def _record(completion: Completion) -> str:
    claim = completion.claim
    output = "" if completion.output is None else f',"output":{completion.output}'
    params = "" if completion.params is None else f',"input":{completion.params}'
    hand_over = "true" if completion.hand_over else "false"
    cost = (
        ""
        if not completion.counted
        else f',"cost":{"null" if completion.cost_nanos is None else completion.cost_nanos}'
    )
    return f'{{"step":"{claim.step_id}","attempt":{claim.attempt},"hand_over":{hand_over}{output}{params}{cost}}}'


def _completed(completion: Completion, row: DictRow | None) -> Transition:
    """No row: another process has taken over."""
    claim = completion.claim
    if row is None:
        return Transition(claim.step_id, False, "", None, "", ())
    successor = None
    if row["next_step"] is not None:
        successor = Claim(
            row["next_step"],
            row["next_attempt"],
            row["execution_id"],
            row["next_index"],
            row["definition_hash"],
            row["scope"],
            row["retries_so_far"],
            row["override"],
            row["max_cost_nanos"],
        )
    status = "skipped" if completion.output is None else "completed"
    ready = ready_steps(row)
    return Transition(claim.step_id, True, status, row["execution_id"], row["execution_status"], ready, successor)


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
    cost_nanos: int | None = None,
    unpriced: bool = False,
    patience: float = 0.0,
) -> Transition:
    """running -> pending after `delay_ms`, or failed. Raises retry_count once per attempt. `cost_nanos`: what it cost;
    `unpriced`: it called the tool, at a price nobody knows."""
    parameters = {
        "step_id": step_id,
        "attempt": attempt,
        "kind": kind,
        "error": error.replace("\0", "\\0"),
        "retryable": retryable,
        "delay_ms": delay_ms,
        "input": params,
        "cost": cost_nanos,
        "unpriced": unpriced,
    }
    return _transition(step_id, run(pool, "charge_step", parameters, patience=patience)[0])


def reserve_cost(pool: Pool, claim: Claim, nanos: int, *, patience: float = 0.0) -> DictRow:
    """Before a call of an execution with a limit that is sure to cost so much: admitted, spent_nanos (null: the attempt no
    longer holds its step), max_nanos."""
    parameters = {"step_id": claim.step_id, "attempt": claim.attempt, "nanos": nanos}
    return run(pool, "reserve_cost", parameters, patience=patience)[0]


def release_step(pool: Pool, claim: Claim, reason: str, *, unpriced: bool = False, patience: float = 0.0) -> Transition:
    """running -> pending, uncharged. `unpriced`: the tool was called, at a price nobody knows."""
    parameters = {"step_id": claim.step_id, "attempt": claim.attempt, "reason": reason, "unpriced": unpriced}
    return _transition(claim.step_id, run(pool, "release_step", parameters, patience=patience)[0])


def charged(row: DictRow) -> Transition:
    """A row of reap_steps, which answers those that it charged."""
    return _transition(row["step_id"], {**row, "recorded": True})


def _transition(step_id: UUID, row: DictRow) -> Transition:
    return Transition(
        step_id=step_id,
        recorded=row["recorded"],
        step_status=row["step_status"] or "",
        execution_id=row["execution_id"],
        execution_status=row["execution_status"] or "",
        ready=ready_steps(row),
        ended=row.get("ended") or False,
        step_name=row.get("step_name") or "",
        workflow=row.get("workflow") or "",
    )


def ready_steps(row: DictRow) -> tuple[ReadyStep, ...]:
    """The parallel arrays of an answer, as steps of its execution."""
    steps = row["ready_steps"]
    return tuple(map(ReadyStep, steps, row["ready_attempts"], repeat(row.get("execution_id")))) if steps else ()
