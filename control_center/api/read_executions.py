"""Executions as the original's endpoints show them, with filters, pages and attempts beside."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from psycopg.rows import DictRow
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from control_center.api import shapes
from control_center.api.auth import needs
from control_center.api.paging import decode_cursor, encode_cursor
from control_center.api.problems import Problem, documented
from control_center.make_job import select
from control_center.progress import show_state
from orchestrator.read_state import read_state
from persistence.errors import NotFound
from persistence.executions import find_execution, get_execution_steps, require_execution
from persistence.json_value import encode_json
from persistence.pool import Pool, run

router = APIRouter(prefix="/api/workflow", tags=["executions"], dependencies=[Depends(needs("viewer"))])
STATUSES = ("pending", "running", "completed", "failed", "cancelled", "paused")
TEXT_WINDOW = timedelta(days=2)  # a text is looked for in this time, unless `since` says otherwise


class Selection(BaseModel):
    """What executions have in common."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    status: str | None = Field(None, description="One or more of the statuses, with commas", max_length=100)
    workflow: str | None = Field(None, description="A registered workflow's name", max_length=255)
    triggered_by: str | None = Field(None, max_length=255)
    since: AwareDatetime | None = Field(None, description="Created then or later")
    until: AwareDatetime | None = Field(None, description="Created before")
    label: list[str] = Field(default_factory=list, max_length=20, description="NAME:VALUE; all of them must be there")


class Filters(Selection):
    """The query of a listing."""

    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = Field(None, max_length=500)
    q: str | None = Field(
        None,
        min_length=2,
        max_length=100,
        description="Text in title, error or triggeredBy; 2 days unless since says more",
    )


@router.get("/executions", responses=documented("invalid-request", "unknown-parameter", "foreign-cursor"))
def list_executions(request: Request, response: Response, filters: Annotated[Filters, Query()]) -> shapes.ExecutionList:
    """Recent executions, newest first."""
    rows, cursor = find_page(request.app.state.read_pool, filters)
    if cursor is not None:
        following = request.url.include_query_params(cursor=cursor)
        response.headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
    executions = [shapes.execution_row(row) for row in rows]
    more = cursor is not None
    return shapes.ExecutionList(executions=executions, total=len(rows), next_cursor=cursor, has_more=more)


def find_page(pool: Pool, filters: Filters) -> tuple[list[DictRow], str | None]:
    """A page's rows, and the cursor of the next if there is one. Raises Problem."""
    parameters = _parameters(pool, filters)
    marked = filters.model_dump(exclude={"limit", "cursor"})
    if filters.cursor is not None:
        parameters["at"], parameters["id"] = decode_cursor(marked, filters.cursor)
    rows = run(pool, "page_executions", {**parameters, "limit": filters.limit + 1}, prepare=False)
    more, rows = len(rows) > filters.limit, rows[: filters.limit]
    return rows, encode_cursor(marked, rows[-1]["created_at"], rows[-1]["id"]) if more else None


def _parameters(pool: Pool, filters: Filters) -> dict[str, Any]:
    found = selected(pool, filters)
    if found["labels"] is not None:
        found["labels"] = encode_json(found["labels"])
    escaped = (filters.q or "").replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    if filters.q is not None and filters.since is None:
        found["since"] = datetime.now(UTC) - TEXT_WINDOW
    return {**found, "ids": None, "text": f"%{escaped}%" if filters.q is not None else None, "at": None, "id": None}


def selected(pool: Pool, filters: Selection, place: str = "/query") -> dict[str, Any]:
    """The parameters of the queries that select executions; a workflow's name as the ids of its versions. `place`: where in
    the request the filters are. Raises Problem."""
    statuses = [status for status in (filters.status or "").split(",") if status]
    if unknown := [status for status in statuses if status not in STATUSES]:
        raise Problem(
            "invalid-request",
            f"unknown status {', '.join(unknown)}; there are {', '.join(STATUSES)}",
            errors=[{"pointer": f"{place}/status", "detail": "not a status"}],
        )
    labels = {}
    for label in filters.label:
        name, separator, value = label.partition(":")
        if not separator:
            raise Problem(
                "invalid-request",
                "a label is written NAME:VALUE",
                errors=[{"pointer": f"{place}/label", "detail": "no colon"}],
            )
        labels[name] = value
    return select(
        pool,
        statuses=statuses,
        workflow=filters.workflow,
        triggered_by=filters.triggered_by,
        since=filters.since,
        until=filters.until,
        labels=labels,
    )


@router.get(
    "/execution/{execution_id}",
    responses={304: {"description": "As it was"}, **documented("not-found", "archived", "invalid-request")},
)
def get_execution(
    request: Request,
    response: Response,
    execution_id: UUID,
    hide: Annotated[list[Literal["input", "output", "context"]] | None, Query()] = None,
) -> shapes.ExecutionDetail:
    """An execution with all of its steps. `hide` leaves payloads out. Answers 304 for an `If-None-Match` that still holds."""
    pool: Pool = request.app.state.read_pool
    row = require_execution(pool, execution_id)
    steps = get_execution_steps(pool, execution_id)
    tag = _tag(row, steps, hide or [])
    if request.headers.get("if-none-match") == tag:
        raise NotModified(tag)
    response.headers["ETag"] = tag
    response.headers["Cache-Control"] = "no-cache"
    return shapes.execution_detail(row, steps, frozenset(hide or []))


@router.get("/find/{beginning}", responses=documented("not-found", "archived", "invalid-request"))
def find(request: Request, beginning: str) -> shapes.Found:
    """The one execution whose id begins so."""
    return shapes.Found(execution_id=str(find_execution(request.app.state.read_pool, beginning)))


class NotModified(Exception):
    """What the caller has is what there is."""

    def __init__(self, tag: str):
        self.tag = tag
        super().__init__(tag)


def _tag(row: DictRow, steps: list[DictRow], hidden: list[Any]) -> str:
    changed = max([row["updated_at"], *(step["updated_at"] for step in steps)])
    state = [
        changed.isoformat(),
        row["status"],
        *(f"{step['status']}{step['attempt']}" for step in steps),
        *sorted(hidden),
    ]
    return f'W/"{hashlib.sha256("|".join(state).encode()).hexdigest()[:32]}"'


@router.get("/execution/{execution_id}/steps/{index}", responses=documented("not-found", "archived", "invalid-request"))
def get_step(request: Request, execution_id: UUID, index: int) -> shapes.StepDetail:
    """A step with the attempts that failed, were lost or handed back."""
    pool: Pool = request.app.state.read_pool
    if not 0 <= index < 2**31:
        raise NotFound(f"no step {index}")
    rows = run(pool, "get_step", {"execution_id": execution_id, "index": index})
    if not rows:
        raise NotFound(f"no step {index} of an execution {execution_id}")
    events = run(pool, "get_execution_events", {"execution_id": execution_id})
    attempts = [shapes.event_shape(event) for event in events if event["step_id"] == rows[0]["id"]]
    return shapes.StepDetail(step=shapes.step_shape(rows[0]), attempts=attempts)


@router.get("/execution/{execution_id}/events", responses=documented("not-found", "archived", "invalid-request"))
def get_events(
    request: Request,
    execution_id: UUID,
    after: Annotated[int, Query(ge=0, lt=2**63, description="Events with a greater id")] = 0,
) -> shapes.EventList:
    """The history that the rows alone do not tell."""
    pool: Pool = request.app.state.read_pool
    require_execution(pool, execution_id)
    rows = run(pool, "get_execution_events", {"execution_id": execution_id})
    events = [shapes.event_shape(row) for row in rows if row["id"] > after]
    return shapes.EventList(events=events, total=len(events))


@router.get("/execution/{execution_id}/state", responses=documented("not-found", "archived", "invalid-request"))
def get_state(
    request: Request,
    execution_id: UUID,
    at: Annotated[AwareDatetime | None, Query(description="A past moment; now without it")] = None,
) -> shapes.State:
    """What the execution is, or was at a past moment, told from its rows: the original's state object."""
    return shapes.State(**show_state(read_state(request.app.state.read_pool, execution_id, at)))


@router.get("/execution/{execution_id}/results", responses=documented("not-found", "archived", "invalid-request"))
def get_results(request: Request, execution_id: UUID) -> shapes.ResultList:
    """Results that a person had replaced, oldest first. Nothing is erased."""
    pool: Pool = request.app.state.read_pool
    require_execution(pool, execution_id)
    return shapes.result_list(run(pool, "step_results", {"execution_id": execution_id}))
