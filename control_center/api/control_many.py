"""A control of many executions at once: counted first, then a job that orchestrators work off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from control_center.api import shapes
from control_center.api.audit import audit
from control_center.api.auth import Principal, needs
from control_center.api.paging import decode_cursor, encode_cursor
from control_center.api.problems import Problem, documented
from control_center.api.read_executions import Selection, selected
from control_center.make_job import IDS, Many, by_filter, by_ids, cancel_job, count, get_job, make_job, said
from control_center.progress import iso
from persistence.errors import InvalidInput
from persistence.pool import Pool, run

router = APIRouter(prefix="/api/workflow", tags=["controls"])
Operator = Annotated[Principal, Depends(needs("operator"))]
JobStatus = Literal["pending", "running", "completed", "cancelled"]


class Bulk(shapes._Shape):
    """`ids` or `filter`, and not both. A filter names at least one thing; executions made after the request are not meant."""

    action: Literal["pause", "resume", "cancel", "retry"]
    ids: list[Annotated[UUID, Field(strict=False)]] | None = Field(None, min_length=1, max_length=IDS)
    filter: Selection | None = None
    reason: str | None = Field(None, max_length=2000)
    dry_run: bool = Field(False, description="Change nothing; answer how many executions are meant")


class BulkPreview(shapes._Shape):
    """`total`: the executions meant, exactly; if `more` is true, there are more than that. `takes`: those of them that take
    the action as they stand."""

    dry_run: Literal[True] = True
    action: str
    total: int
    more: bool
    takes: int


class Job(shapes._Shape):
    """`total`: null if there were more than 100,000. `done` and `refused`: so far; `failed`: those of the refused whose
    control met an error of the database, three times."""

    id: str
    action: str
    status: JobStatus
    total: int | None
    done: int
    refused: int
    failed: int
    actor: str
    reason: str | None
    cancelled_by: str | None
    cancel_reason: str | None
    created_at: str
    updated_at: str


class JobError(shapes._Shape):
    execution_id: str
    error: str


class JobDetail(Job):
    """`errors`: of the first 100 of `failed`."""

    errors: list[JobError]


class JobList(shapes._Shape):
    jobs: list[Job]
    total: int
    next_cursor: str | None
    has_more: bool


class Cancellation(shapes._Shape):
    reason: str | None = Field(
        None, max_length=2000, description="For people: it stands in the job and in the audit log"
    )


@router.post(
    "/executions/bulk",
    status_code=202,
    responses={
        200: {"model": BulkPreview, "description": "A dry run"},
        **documented(
            "malformed-json",
            "too-deep",
            "not-found",
            "request-timeout",
            "body-too-large",
            "unsupported-media-type",
            "invalid-request",
            "rate-limited",
        ),
    },
)
def control_executions(request: Request, response: Response, bulk: Bulk, principal: Operator) -> Job | BulkPreview:
    """Makes a job of it, which survives restarts; `dryRun` answers the count and changes nothing."""
    pool: Pool = request.app.state.pool
    many = _many(request.app.state.read_pool, bulk)
    counted = count(request.app.state.read_pool, many)
    if bulk.dry_run:
        response.status_code = 200
        return BulkPreview(**counted)
    row = make_job(pool, many, counted, principal.name, bulk.reason)
    audit(pool, principal, "executions.bulk", str(row["id"]), said(many, row))
    response.headers["Location"] = f"/api/workflow/jobs/{row['id']}"
    return Job(**_shown(row))


@router.get("/jobs", dependencies=[Depends(needs("viewer"))], responses=documented("invalid-request", "foreign-cursor"))
def list_jobs(
    request: Request,
    response: Response,
    status: Annotated[JobStatus | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> JobList:
    """Jobs, newest first, without their errors."""
    filters = {"jobs": status}
    at, last = decode_cursor(filters, cursor) if cursor is not None else (None, None)
    parameters = {"status": status, "at": at, "id": last, "limit": limit + 1}
    rows = run(request.app.state.read_pool, "list_jobs", parameters, prepare=False)
    more, rows = len(rows) > limit, rows[:limit]
    following = encode_cursor(filters, rows[-1]["created_at"], rows[-1]["id"]) if more else None
    if following is not None:
        address = request.url.include_query_params(cursor=following)
        response.headers["Link"] = f'<{address.path}?{address.query}>; rel="next"'
    return JobList(jobs=[Job(**_shown(row)) for row in rows], total=len(rows), next_cursor=following, has_more=more)


@router.get(
    "/jobs/{job_id}", dependencies=[Depends(needs("viewer"))], responses=documented("not-found", "invalid-request")
)
def read_job(request: Request, job_id: UUID) -> JobDetail:
    """How far a job has come, and why executions were refused that met an error."""
    return _detail(get_job(request.app.state.read_pool, job_id))


@router.post(
    "/jobs/{job_id}/cancel",
    responses=documented(
        "malformed-json",
        "too-deep",
        "not-found",
        "action-refused",
        "request-timeout",
        "body-too-large",
        "unsupported-media-type",
        "invalid-request",
        "rate-limited",
    ),
)
def stop_job(
    request: Request, job_id: UUID, principal: Operator, cancellation: Cancellation | None = None
) -> JobDetail:
    """Stops what is left of a job; what was done stays done. Refused (409) if it has completed; twice is once."""
    pool: Pool = request.app.state.pool
    reason = cancellation.reason if cancellation is not None else None
    new, row = cancel_job(pool, job_id, principal.name, reason)
    if new:
        audit(pool, principal, "job.cancel", str(job_id), {"reason": reason})
    return _detail(row)


def _many(pool: Pool, bulk: Bulk) -> Many:
    """Raises Problem."""
    if (bulk.ids is None) == (bulk.filter is None):
        raise Problem("invalid-request", "give `ids` or `filter`, and not both")
    if bulk.ids is not None:
        return by_ids(bulk.action, bulk.ids)
    if bulk.filter is not None:
        try:
            return by_filter(bulk.action, selected(pool, bulk.filter, "/filter"))
        except InvalidInput as error:
            raise Problem(
                "invalid-request", str(error), errors=[{"pointer": "/filter", "detail": "it is empty"}]
            ) from None
    raise AssertionError("one of the two is there")


def _detail(row: Mapping[str, Any]) -> JobDetail:
    errors = [JobError(execution_id=one["execution_id"], error=one["error"]) for one in row["errors"]]
    return JobDetail(**_shown(row), errors=errors)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    same = (
        "action",
        "status",
        "total",
        "done",
        "refused",
        "failed",
        "actor",
        "reason",
        "cancelled_by",
        "cancel_reason",
    )
    times = {name: iso(row[name]) or "" for name in ("created_at", "updated_at")}
    return {"id": str(row["id"]), **{name: row[name] for name in same}, **times}
