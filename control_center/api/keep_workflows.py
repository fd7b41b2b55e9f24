"""Workflows by name: registered in versions, enabled and disabled, started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field

from control_center.api import shapes
from control_center.api.audit import audit
from control_center.api.auth import Principal, needs
from control_center.api.problems import Problem, documented
from control_center.api.start_executions import ANSWERS, Key, Started, Starter, start_execution
from control_center.find_workflow import find_workflow
from control_center.list_tools import tool_schemas
from control_center.progress import iso
from orchestrator.plan import definition_hash
from orchestrator.validate import validate
from persistence.errors import NotFound
from persistence.pool import Pool, run

router = APIRouter(prefix="/api/workflow", tags=["workflows"])
VIEWER = [Depends(needs("viewer"))]
Operator = Annotated[Principal, Depends(needs("operator"))]
Name = Annotated[str, Path(max_length=255)]


class WorkflowRow(shapes._Shape):
    id: str
    name: str
    version: int
    enabled: bool
    description: str | None
    definition_hash: str
    created_at: str
    updated_at: str


class WorkflowDetail(WorkflowRow):
    definition: dict[str, Any]


class WorkflowList(shapes._Shape):
    workflows: list[WorkflowRow]
    total: int
    next_cursor: str | None


class Registration(shapes._Shape):
    """A definition with a name. `created` in the answer says whether it made a new version."""

    definition: dict[str, Any]


class Registered(shapes._Shape):
    id: str
    name: str
    version: int
    enabled: bool
    created: bool


class Trigger(shapes._Shape):
    input: dict[str, Any] = Field(default_factory=dict)
    context: dict[str, Any] = Field(default_factory=dict)
    title: str | None = Field(None, min_length=1, max_length=500)
    labels: dict[shapes.Label, shapes.Label] = Field(default_factory=dict, max_length=50)
    triggered_by: str | None = Field(None, max_length=255)
    dry_run: bool = False


@router.get("/workflows", dependencies=VIEWER, responses=documented("invalid-request"))
def list_workflows(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(max_length=255, description="The last name of the page before")] = None,
) -> WorkflowList:
    """The newest version of each workflow, by name."""
    rows = run(request.app.state.read_pool, "list_workflows", {"limit": limit + 1, "after": cursor})
    more, rows = len(rows) > limit, rows[:limit]
    return WorkflowList(
        workflows=[_row(row) for row in rows], total=len(rows), next_cursor=rows[-1]["name"] if more else None
    )


@router.post(
    "/workflows",
    status_code=201,
    responses={
        200: {"model": Registered, "description": "It was the newest version already"},
        **documented(
            "invalid-definition",
            "invalid-request",
            "malformed-json",
            "too-deep",
            "request-timeout",
            "body-too-large",
            "unsupported-media-type",
            "rate-limited",
        ),
    },
)
def register_workflow(
    request: Request, response: Response, registration: Registration, principal: Operator
) -> Registered:
    """Registers a definition under its own name. A changed definition is a new version; running executions keep theirs."""
    pool: Pool = request.app.state.pool
    workflow = validate(registration.definition, tools=tool_schemas(pool))
    if workflow.name is None:
        raise Problem(
            "invalid-request",
            "a registered workflow needs a name",
            errors=[{"pointer": "/definition/name", "detail": "it is missing"}],
        )
    row = request.app.state.submitter.register(workflow)
    if row["created"]:
        audit(
            pool,
            principal,
            "workflow.register",
            workflow.name,
            {"version": row["version"], "hash": definition_hash(workflow)},
        )
    else:
        response.status_code = 200
    return Registered(
        id=str(row["id"]), name=workflow.name, version=row["version"], enabled=row["enabled"], created=row["created"]
    )


@router.get("/workflows/{name}", dependencies=VIEWER, responses=documented("not-found", "invalid-request"))
def get_workflow(
    request: Request,
    name: Name,
    version: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
) -> WorkflowDetail:
    """A workflow with its definition; the newest version, if none is asked for."""
    row = find_workflow(request.app.state.read_pool, name, version)
    return WorkflowDetail(**_row(row).model_dump(), definition=json.loads(row["definition"]))


@router.post("/workflows/{name}/enable", responses=documented("not-found", "invalid-request", "rate-limited"))
def enable_workflow(request: Request, name: Name, principal: Operator) -> WorkflowRow:
    """It may be started again."""
    return _set_enabled(request.app.state.pool, name, True, principal)


@router.post("/workflows/{name}/disable", responses=documented("not-found", "invalid-request", "rate-limited"))
def disable_workflow(request: Request, name: Name, principal: Operator) -> WorkflowRow:
    """No execution of it is started any more; those that run go on."""
    return _set_enabled(request.app.state.pool, name, False, principal)


@router.post("/workflows/{name}/trigger", status_code=202, response_model=Started, responses=ANSWERS)
def trigger_workflow(request: Request, name: Name, trigger: Trigger, principal: Starter, key: Key = None) -> Response:
    """Starts an execution of the newest version."""
    wish = shapes.Submission(workflow=name, **trigger.model_dump())
    return start_execution(request, wish, principal, key)


def _set_enabled(pool: Pool, name: str, enabled: bool, principal: Principal) -> WorkflowRow:
    if not run(pool, "enable_workflow", {"name": name, "enabled": enabled}):
        raise NotFound(f"no workflow is named {name}")
    audit(pool, principal, f"workflow.{'enable' if enabled else 'disable'}", name)
    return _row(find_workflow(pool, name))


def _row(row: Mapping[str, Any]) -> WorkflowRow:
    return WorkflowRow(
        id=str(row["id"]),
        name=row["name"],
        version=row["version"],
        enabled=row["enabled"],
        description=row["description"],
        definition_hash=row["definition_hash"],
        created_at=iso(row["created_at"]) or "",
        updated_at=iso(row["updated_at"]) or "",
    )
