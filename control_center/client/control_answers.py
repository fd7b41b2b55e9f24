"""What the API answers to whoever operates: controls, jobs, holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


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
