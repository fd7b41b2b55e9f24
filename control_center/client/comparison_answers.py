"""What the API answers of two executions: where they diverge, and in what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


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
