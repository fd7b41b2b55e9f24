"""What the API answers of what executions need: workflows, tools and their servers, costs, its own health."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


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
