"""What the API answers, as values: its names in snake_case, times as aware datetimes (UTC), numbers as they were sent."""

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
class ControlledTool:
    """`changes`: whether the tool changes things, None if the catalogue does not say. `conditional`: called only if its
    step's condition holds."""

    step: str
    index: int
    tool: str
    changes: bool | None
    conditional: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """What a control would do. `reused` and `replaced`: steps whose results stay, and those whose results are replaced."""

    execution_id: str
    action: str
    status: str
    allowed_actions: list[str]
    reused: list[str]
    replaced: list[str]
    calls: list[ControlledTool]


@dataclass(frozen=True, slots=True)
class Controlled:
    """Of fork and replay the new execution, else the one that was asked for, as it stands now."""

    execution_id: str
    action: str
    status: str
    allowed_actions: list[str]
    url: str


@dataclass(frozen=True, slots=True)
class Count:
    """`total`: the executions meant, exactly; if `more`, there are more than that. `takes`: those that take the action as
    they stand."""

    action: str
    total: int
    more: bool
    takes: int


@dataclass(frozen=True, slots=True)
class JobError:
    execution_id: str
    error: str


@dataclass(frozen=True, slots=True)
class Job:
    """A control of many executions. `status`: pending, running, completed or cancelled. `total`: None if there were too many.
    `failed`: those of the refused whose control met an error; `errors`: of the first 100 of them, if one job is read."""

    id: str
    action: str
    status: str
    total: int | None
    done: int
    refused: int
    failed: int
    actor: str
    reason: str | None
    cancelled_by: str | None
    cancel_reason: str | None
    created_at: datetime
    updated_at: datetime
    errors: list[JobError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class JobList:
    jobs: list[Job]


@dataclass(frozen=True, slots=True)
class Hold:
    kind: str
    name: str
    actor: str
    reason: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class HoldList:
    holds: list[Hold]


@dataclass(frozen=True, slots=True)
class Released:
    """`waiting`: how many steps waited, and are due now."""

    kind: str
    name: str
    waiting: int


@dataclass(frozen=True, slots=True)
class StepDetail:
    step: Step
    attempts: list[Event]


@dataclass(frozen=True, slots=True)
class EventList:
    events: list[Event]


@dataclass(frozen=True, slots=True)
class Change:
    """One place where B is not as A. `kind`: changed, type_changed, added, removed or moved. `path` points into B, or into
    A at what was removed; `origin` into A, None at what was added. A value too long to show is {"truncated": True, …}."""

    kind: str
    path: str
    origin: str | None
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Delta:
    """`what`: definition, input, context, tool_schema, params, status, error, retries or output. `more`: changes beyond
    those listed."""

    what: str
    changes: list[Change]
    more: int


@dataclass(frozen=True, slots=True)
class Divergence:
    """`what`: as of a Delta, or missing, extra, order. `step` None: in what both were started with, or only in how they
    ended."""

    what: str
    step: str | None
    iteration: int
    change: Change


@dataclass(frozen=True, slots=True)
class ComparedSide:
    index: int
    tool: str | None
    status: str
    duration_ms: int | None
    retry_count: int
    cost: Any


@dataclass(frozen=True, slots=True)
class ComparedStep:
    """`verdict`: same, changed, added or removed. `a`, `b`: None where the execution has no such step."""

    name: str
    iteration: int
    verdict: str
    moved: bool
    a: ComparedSide | None
    b: ComparedSide | None
    deltas: list[Delta]


@dataclass(frozen=True, slots=True)
class ComparedExecution:
    id: str
    workflow: str | None
    title: str | None
    status: str
    started_at: datetime | None
    duration_ms: int | None
    cost: Any


@dataclass(frozen=True, slots=True)
class ComparedDefinition:
    """`same`: None if an execution has no definition. Steps by name."""

    same: bool | None
    added: list[str]
    removed: list[str]
    reordered: list[str]
    changed: list[str]


@dataclass(frozen=True, slots=True)
class ComparisonSummary:
    """Numbers of steps, and what B took or cost more than A."""

    same: int
    changed: int
    added: int
    removed: int
    duration_ms_delta: int | None
    cost_delta: Any


@dataclass(frozen=True, slots=True)
class Comparison:
    """B as it differs from A. `sentence`: the first divergence in words. `deltas`: of the executions as wholes."""

    sentence: str
    first_divergence: Divergence | None
    summary: ComparisonSummary
    definition: ComparedDefinition
    a: ComparedExecution
    b: ComparedExecution
    deltas: list[Delta]
    steps: list[ComparedStep]


@dataclass(frozen=True, slots=True)
class Workflow:
    """A registered workflow: the newest version, or the one asked for."""

    id: str
    name: str
    version: int
    enabled: bool
    description: str | None
    definition_hash: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class WorkflowDetail(Workflow):
    definition: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkflowPage:
    workflows: list[Workflow]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Registered:
    """`created`: the definition made a new version; else it was the newest already."""

    id: str
    name: str
    version: int
    enabled: bool
    created: bool


@dataclass(frozen=True, slots=True)
class Tool:
    server: str
    tool: str
    description: str | None
    input_schema: Any
    output_schema: Any
    annotations: Any
    repeatable: bool
    era: str | None
    hash: str
    fetched_at: datetime | None
    changed_at: datetime | None


@dataclass(frozen=True, slots=True)
class ToolList:
    tools: list[Tool]


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """`healthy`: it answered when a worker last looked."""

    name: str
    healthy: bool
    protocol: str | None
    tools: int
    error: str | None
    looked_at: datetime | None
    fetched_at: datetime | None


@dataclass(frozen=True, slots=True)
class McpHealth:
    servers: list[ServerHealth]
    total: int
    healthy: int


@dataclass(frozen=True, slots=True)
class CostSum:
    """`cost_usd`: US dollars, an exact decimal text. `unpriced_calls`: those of the calls whose price is not known."""

    cost_usd: str
    calls: int
    unpriced_calls: int


@dataclass(frozen=True, slots=True)
class Cost(CostSum):
    """`name`: of the workflow (empty: it has none), the server, the tool, or the UTC day."""

    name: str


@dataclass(frozen=True, slots=True)
class CostList:
    costs: list[Cost]
    total: CostSum


@dataclass(frozen=True, slots=True)
class Health:
    status: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """`redis`: ok or away; without it submissions still succeed. `workers`: how many are alive."""

    status: str
    database: str
    redis: str
    workers: int
