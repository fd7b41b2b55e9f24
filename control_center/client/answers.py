"""What the API answers about executions, and *_answers.py about the rest, as values: its names in snake_case, times as aware
datetimes (UTC), numbers as they were sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

TERMINAL = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Request:
    """One wish among many for `submit_many`. Its key is made with it: submitting the same Request again starts nothing
    new, so a call that failed half-way is simply made again with the same list."""

    input: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    title: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    idempotency_key: str = field(default_factory=lambda: str(uuid4()))


@dataclass(frozen=True, slots=True)
class Accepted:
    """`replayed`: the idempotency key was used before, and this is the execution it started."""

    execution_id: str
    workflow_id: str | None
    url: str
    replayed: bool = False
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class AcceptedBatch:
    executions: list[Accepted]


@dataclass(frozen=True, slots=True)
class CalledTool:
    """`repeatable`: whether a call with an unknown outcome would be made again; None if the catalogue does not say."""

    step: str
    index: int
    tool: str
    condition: str | None
    known: bool
    repeatable: bool | None
    destructive: bool | None


@dataclass(frozen=True, slots=True)
class DryRun:
    workflow_id: str | None
    steps: list[CalledTool]


@dataclass(frozen=True, slots=True)
class Found:
    execution_id: str


@dataclass(frozen=True, slots=True)
class ExecutionRow:
    """An execution in a listing: no payloads, its error cut to 200 characters."""

    id: str
    workflow_id: str | None
    status: str
    started_at: datetime | None
    completed_at: datetime | None
    error: str | None
    triggered_by: str | None
    github_run_id: str | None
    created_at: datetime
    workflow: str | None
    title: str | None
    labels: dict[str, Any]
    allowed_actions: list[str] = field(default_factory=list)
    cost_usd: str | None = None
    unpriced_calls: int | None = None


@dataclass(frozen=True, slots=True)
class ExecutionPage:
    executions: list[ExecutionRow]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Execution:
    """`status`: pending, running, paused, completed, failed or cancelled. `forked_from`: the execution that a fork or a
    replay was made of. `allowed_actions`: the controls it takes now. `cost_usd`: US dollars, an exact decimal text."""

    id: str
    workflow_id: str | None
    status: str
    input: Any
    output: Any
    context: Any
    started_at: datetime | None
    completed_at: datetime | None
    error: str | None
    triggered_by: str | None
    github_run_id: str | None
    created_at: datetime
    updated_at: datetime
    workflow: str | None
    title: str | None
    labels: dict[str, Any]
    definition_hash: str | None
    forked_from: str | None = None
    allowed_actions: list[str] = field(default_factory=list)
    cost_usd: str | None = None
    unpriced_calls: int | None = None
    max_cost_usd: str | None = None
    trace_id: str = ""

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True)
class Step:
    """`claimed_at`: when its newest attempt began; `started_at`: when its first did. `override`: what a person wanted of
    its newest attempt, or of the next. `reused_from`: the step of another execution whose result this is."""

    id: str
    name: str
    index: int
    status: str
    input: Any
    output: Any
    started_at: datetime | None
    completed_at: datetime | None
    duration_ms: int | None
    error: str | None
    retry_count: int
    tool: str | None
    error_kind: str | None
    attempt: int
    next_run_at: datetime | None
    claimed_at: datetime | None = None
    override: Any = None
    reused_from: str | None = None
    cost_usd: str | None = None
    unpriced_calls: int | None = None


@dataclass(frozen=True, slots=True)
class Metadata:
    total_steps: int
    completed_steps: int
    failed_steps: int
    skipped_steps: int


@dataclass(frozen=True, slots=True)
class ExecutionDetail:
    execution: Execution
    steps: list[Step]
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the rows alone do not tell: an attempt that failed, was lost or handed back, or an operator's act."""

    id: int
    step_id: str | None
    attempt: int | None
    event: str
    kind: str | None
    message: str | None
    actor: str | None
    started_at: datetime | None
    at: datetime
    detail: Any = None


@dataclass(frozen=True, slots=True)
class StepResult:
    """A result that a person had replaced. `control`: the id of the event that says who and why."""

    id: int
    step_id: str
    index: int
    status: str
    attempt: int
    input: Any
    output: Any
    error: str | None
    error_kind: str | None
    started_at: datetime | None
    completed_at: datetime | None
    duration_ms: int | None
    retry_count: int | None
    control: int
    replaced_at: datetime


@dataclass(frozen=True, slots=True)
class StepState:
    """`duration`: milliseconds."""

    name: str
    status: str
    output: Any
    duration: int | None
    retries: int


@dataclass(frozen=True, slots=True)
class State:
    """An execution as it is, or was at a past moment."""

    execution_id: str
    status: str
    input: Any
    context: Any
    steps: list[StepState]


@dataclass(frozen=True, slots=True)
class ResultList:
    results: list[StepResult]


@dataclass(frozen=True, slots=True)
class StepDetail:
    step: Step
    attempts: list[Event]


@dataclass(frozen=True, slots=True)
class EventList:
    events: list[Event]
