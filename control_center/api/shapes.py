"""What the API takes and answers, by name. camelCase outside, times as UTC with milliseconds and Z.

The executions' and steps' first keys are the original's, in its order; those after them are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from psycopg.rows import DictRow
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from control_center.progress import cost_keys, dollars, iso, result_objects, step_objects, text
from orchestrator.judge_control import allowed_actions
from workers.secrets import redact

Json = dict[str, Any]
Label = Annotated[str, Field(max_length=255)]
MAX_BATCH = 1000
ENDED = ("completed", "failed", "cancelled")  # and their costs are written


class _Shape(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True)


class Submission(_Shape):
    """One wish for an execution: of a registered workflow by its name, or of a definition that comes along."""

    workflow: str | Json | None = Field(
        None, description="A registered workflow's name; or a definition, as the original's callers send it"
    )
    definition: Json | None = Field(None, description="A definition, instead of `workflow`")
    input: Json | None = Field(None, description="What `${input.…}` reads; else `context.input`")
    context: Json = Field(default_factory=dict, description="What `${repo.…}` and the like read")
    title: str | None = Field(None, min_length=1, max_length=500)
    labels: dict[Label, Label] = Field(default_factory=dict, max_length=50)
    triggered_by: str | None = Field(None, max_length=255, description="Who or what; else the key's name")
    github_run_id: str | None = Field(None, max_length=255)
    dry_run: bool = Field(False, description="Change nothing; answer which tools would be called")


class Batch(_Shape):
    """Many executions of one workflow, in one transaction."""

    workflow: str | None = None
    definition: Json | None = None
    requests: list[BatchRequest] = Field(min_length=1, max_length=MAX_BATCH)


class BatchRequest(_Shape):
    input: Json = Field(default_factory=dict)
    context: Json = Field(default_factory=dict)
    title: str | None = Field(None, min_length=1, max_length=500)
    labels: dict[Label, Label] = Field(default_factory=dict, max_length=50)
    idempotency_key: str | None = Field(None, min_length=1, max_length=255)


class Accepted(_Shape):
    """`url`: where the execution is read. `traceId`: its trace's."""

    execution_id: str
    trace_id: str
    workflow_id: str | None
    url: str


class AcceptedBatch(_Shape):
    executions: list[Accepted]
    total: int


class CalledTool(_Shape):
    """`repeatable`: whether a call with an unknown outcome would be made again; null if the catalogue does not say."""

    step: str
    index: int
    tool: str
    condition: str | None
    known: bool
    repeatable: bool | None
    destructive: bool | None


class DryRun(_Shape):
    dry_run: Literal[True] = True
    workflow_id: str | None
    steps: list[CalledTool]


class ExecutionRow(_Shape):
    """An execution in a listing: no payloads, its error cut to 200 characters. `allowedActions`: by its status alone.
    `costUsd` and `unpricedCalls` are null while it runs."""

    id: str
    workflow_id: str | None
    status: str
    started_at: str | None
    completed_at: str | None
    error: str | None
    triggered_by: str | None
    github_run_id: str | None
    created_at: str
    workflow: str | None
    title: str | None
    labels: dict[str, Any]
    allowed_actions: list[str]
    cost_usd: str | None
    unpriced_calls: int | None


class ExecutionList(_Shape):
    """`total` is the number of rows in this answer, as in the original."""

    executions: list[ExecutionRow]
    total: int
    next_cursor: str | None
    has_more: bool


class Execution(_Shape):
    """`forkedFrom`: the execution that a fork or a replay was made of. `allowedActions`: the controls it takes now.
    `traceId`: its trace's."""

    id: str
    workflow_id: str | None
    status: str
    input: Any
    output: Any
    context: Any
    started_at: str | None
    completed_at: str | None
    error: str | None
    triggered_by: str | None
    github_run_id: str | None
    created_at: str
    updated_at: str
    workflow: str | None
    title: str | None
    labels: dict[str, Any]
    definition_hash: str | None
    forked_from: str | None
    allowed_actions: list[str]
    cost_usd: str | None = Field(description="US dollars, a decimal text; null: nothing has a price")
    unpriced_calls: int | None = Field(description="Calls whose price is not known")
    max_cost_usd: str | None = Field(description="The definition's config.maxCost")
    trace_id: str


class Step(_Shape):
    """`override`: what a person wanted of its newest attempt, or of the next: {input}, {output} or {skip}. `reusedFrom`: the
    step of another execution whose result this is."""

    id: str
    name: str
    index: int
    status: str
    input: Any
    output: Any
    started_at: str | None
    completed_at: str | None
    duration_ms: int | None
    error: str | None
    retry_count: int
    tool: str | None
    error_kind: str | None
    cost_usd: str | None
    unpriced_calls: int | None
    attempt: int
    next_run_at: str | None
    claimed_at: str | None
    override: Any
    reused_from: str | None


class Metadata(_Shape):
    total_steps: int
    completed_steps: int
    failed_steps: int
    skipped_steps: int


class ExecutionDetail(_Shape):
    execution: Execution
    steps: list[Step]
    metadata: Metadata


class Found(_Shape):
    execution_id: str


class Event(_Shape):
    """Something that the rows alone do not tell: an attempt that failed, was lost or handed back, or an operator's act."""

    id: int
    step_id: str | None
    attempt: int | None
    event: str
    kind: str | None
    message: str | None
    actor: str | None
    started_at: str | None
    at: str
    detail: Any


class StepDetail(_Shape):
    step: Step
    attempts: list[Event]


class StepState(_Shape):
    """`duration`: milliseconds."""

    name: str
    status: str
    output: Any
    duration: int | None
    retries: int


class State(_Shape):
    """An execution as it is, or was."""

    execution_id: str
    status: str
    input: Any
    context: Any
    steps: list[StepState]


class StepResult(_Shape):
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
    started_at: str | None
    completed_at: str | None
    duration_ms: int | None
    retry_count: int | None
    control: int
    replaced_at: str


class ResultList(_Shape):
    results: list[StepResult]
    total: int


class EventList(_Shape):
    events: list[Event]
    total: int


def execution_row(row: DictRow) -> ExecutionRow:
    return ExecutionRow(
        id=str(row["id"]),
        workflow_id=text(row["workflow_id"]),
        status=row["status"],
        started_at=iso(row["started_at"]),
        completed_at=iso(row["completed_at"]),
        error=row["error"],
        triggered_by=row["triggered_by"],
        github_run_id=row["github_run_id"],
        created_at=iso(row["created_at"]) or "",
        workflow=row["workflow_name"],
        title=row["title"],
        labels=row["labels"],
        allowed_actions=allowed_actions(row["status"]),
        **cost_keys(row if row["status"] in ENDED else {}),
    )


def execution_detail(row: DictRow, steps: Sequence[DictRow], hidden: frozenset[str]) -> ExecutionDetail:
    """`hidden`: the payloads left out, of input, output and context."""
    return ExecutionDetail(
        execution=Execution(
            id=str(row["id"]),
            workflow_id=text(row["workflow_id"]),
            status=row["status"],
            input=None if "input" in hidden else redact(row["input"]),
            output=None if "output" in hidden else redact(row["output"]),
            context=None if "context" in hidden else redact(row["context"]),
            started_at=iso(row["started_at"]),
            completed_at=iso(row["completed_at"]),
            error=row["error"],
            triggered_by=row["triggered_by"],
            github_run_id=row["github_run_id"],
            created_at=iso(row["created_at"]) or "",
            updated_at=iso(row["updated_at"]) or "",
            workflow=row["workflow_name"],
            title=row["title"],
            labels=row["labels"],
            definition_hash=row["definition_hash"],
            forked_from=text(row["forked_from"]),
            allowed_actions=allowed_actions(row["status"], ours=row["definition_hash"] is not None),
            max_cost_usd=dollars(row["max_cost_nanos"]),
            trace_id=row["id"].hex,
            **cost_keys(row),
        ),
        steps=[step_shape(step, hidden) for step in steps],
        metadata=Metadata(
            total_steps=len(steps),
            completed_steps=sum(step["status"] == "completed" for step in steps),
            failed_steps=sum(step["status"] == "failed" for step in steps),
            skipped_steps=sum(step["status"] == "skipped" for step in steps),
        ),
    )


def step_shape(step: DictRow, hidden: frozenset[str] = frozenset()) -> Step:
    (shown,) = step_objects([step])
    for key in hidden & {"input", "output"}:
        shown[key] = shown["override"] = None
    due, claimed = iso(step["next_run_at"]), iso(step["claimed_at"])
    return Step(**shown, attempt=step["attempt"], next_run_at=due, claimed_at=claimed)


def event_shape(event: DictRow) -> Event:
    return Event(
        id=event["id"],
        step_id=text(event["step_id"]),
        attempt=event["attempt"],
        event=event["event"],
        kind=event["kind"],
        message=event["message"],
        actor=event["actor"],
        started_at=iso(event["started_at"]),
        at=iso(event["created_at"]) or "",
        detail=redact(event["detail"]),
    )


def result_list(rows: Sequence[DictRow]) -> ResultList:
    return ResultList(results=[StepResult(**shown) for shown in result_objects(rows)], total=len(rows))
