"""A control of many executions at once: counted first, then a job that orchestrators work off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from control_center.api import shapes
from control_center.api.audit import audit
from control_center.api.auth import Principal, needs
from control_center.api.problems import Problem, documented
from control_center.api.read_executions import Selection, selected
from control_center.progress import iso
from orchestrator.judge_control import ACTIONS
from orchestrator.work_off_jobs import selection
from persistence.errors import NotFound
from persistence.ids import time_ordered_uuid
from persistence.json_value import encode_json
from persistence.pool import Pool, run

router = APIRouter(prefix="/api/workflow", tags=["controls"])
Operator = Annotated[Principal, Depends(needs("operator"))]
COUNTED = 100_000  # executions at most
IDS = 1000


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
    """`total`: null if there were more than 100,000. `done` and `refused`: so far."""

    id: str
    action: str
    status: Literal["pending", "running", "completed"]
    total: int | None
    done: int
    refused: int
    actor: str
    reason: str | None
    created_at: str
    updated_at: str


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
    chosen = _chosen(request.app.state.read_pool, bulk)
    total, takes = _count(request.app.state.read_pool, bulk, chosen)
    if bulk.dry_run:
        response.status_code = 200
        return BulkPreview(action=bulk.action, total=min(total, COUNTED), more=total > COUNTED, takes=takes)
    parameters = {
        "id": time_ordered_uuid(),
        "action": bulk.action,
        "ids": bulk.ids,
        "filter": None if chosen is None else encode_json(chosen, what="the filter"),
        "actor": principal.name,
        "reason": bulk.reason,
        "total": total if total <= COUNTED else None,
    }
    job = _shape(run(pool, "create_job", parameters)[0])
    said = {"action": bulk.action, "reason": bulk.reason, "total": job.total}
    audit(
        pool, principal, "executions.bulk", job.id, said | ({"ids": len(bulk.ids)} if bulk.ids else {"filter": chosen})
    )
    response.headers["Location"] = f"/api/workflow/jobs/{job.id}"
    return job


@router.get(
    "/jobs/{job_id}", dependencies=[Depends(needs("viewer"))], responses=documented("not-found", "invalid-request")
)
def get_job(request: Request, job_id: UUID) -> Job:
    """How far a job has come."""
    rows = run(request.app.state.read_pool, "get_job", {"id": job_id})
    if not rows:
        raise NotFound(f"no job {job_id}")
    return _shape(rows[0])


def _chosen(pool: Pool, bulk: Bulk) -> dict[str, Any] | None:
    """The filter as the job keeps it. Raises Problem."""
    if (bulk.ids is None) == (bulk.filter is None):
        raise Problem("invalid-request", "give `ids` or `filter`, and not both")
    if bulk.filter is None:
        return None
    found = selected(pool, bulk.filter, "/filter")
    if all(value is None for value in found.values()):
        raise Problem(
            "invalid-request",
            "a filter that names nothing means every execution: say at least one thing",
            errors=[{"pointer": "/filter", "detail": "it is empty"}],
        )
    times = {name: found[name].isoformat() for name in ("since", "until") if found[name] is not None}
    if found["workflow_ids"] is not None:
        found["workflow_ids"] = [str(one) for one in found["workflow_ids"]]
    return {name: value for name, value in (found | times).items() if value is not None}


def _count(pool: Pool, bulk: Bulk, chosen: dict[str, Any] | None) -> tuple[int, int]:
    """How many are meant, and how many of them take it. Raises NotFound for ids that name nothing."""
    parameters = selection(bulk.ids, chosen or {}) | {"takes": sorted(ACTIONS[bulk.action]), "limit": COUNTED + 1}
    row = run(pool, "count_executions", parameters, prepare=False)[0]
    if bulk.ids is not None and row["found"] < len(set(bulk.ids)):
        raise NotFound(f"{len(set(bulk.ids)) - row['found']} of the ids name no execution: nothing was changed")
    return row["found"], row["takes"]


def _shape(row: Mapping[str, Any]) -> Job:
    return Job(
        id=str(row["id"]),
        action=row["action"],
        status=row["status"],
        total=row["total"],
        done=row["done"],
        refused=row["refused"],
        actor=row["actor"],
        reason=row["reason"],
        created_at=iso(row["created_at"]) or "",
        updated_at=iso(row["updated_at"]) or "",
    )
