"""A control of many executions: which are meant, how many that is, and the job that orchestrators make of it.

The same for the API and for commands that reach the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from orchestrator.judge_control import ACTIONS
from orchestrator.work_off_jobs import selection
from persistence.errors import InvalidInput, NotFound, Refused
from persistence.ids import time_ordered_uuid
from persistence.json_value import encode_json
from persistence.pool import Pool, run

BULK_ACTIONS = ("pause", "resume", "cancel", "retry")
JOB_STATUSES = ("pending", "running", "completed", "cancelled")
COUNTED = 100_000  # executions at most
IDS = 1000


@dataclass(frozen=True, slots=True)
class Many:
    """Which executions are meant: those of `ids`, or those that `filter` (as a job keeps it) finds."""

    action: str
    ids: Sequence[UUID] | None
    filter: Mapping[str, Any] | None


def by_ids(action: str, ids: Sequence[UUID]) -> Many:
    """Raises InvalidInput for more than IDS of them."""
    if not 0 < len(ids) <= IDS:
        raise InvalidInput(f"{len(ids)} ids: a job takes 1 to {IDS:,} of them; more have something in common")
    return Many(action, ids, None)


def by_filter(action: str, found: Mapping[str, Any]) -> Many:
    """`found`: by the names of SELECTION. Raises InvalidInput if it names nothing, which would mean every execution."""
    if all(value is None for value in found.values()):
        raise InvalidInput("a filter that names nothing means every execution: say at least one thing")
    return Many(action, None, {name: _plain(value) for name, value in found.items() if value is not None})


def select(
    pool: Pool,
    *,
    statuses: Sequence[str],
    workflow: str | None,
    triggered_by: str | None,
    since: datetime | None,
    until: datetime | None,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """What executions have in common, by the names of SELECTION; a workflow's name as the ids of its versions."""
    ids = None
    if workflow is not None:
        ids = [row["id"] for row in run(pool, "workflow_ids", {"name": workflow})]
    return {
        "status": statuses[0] if len(statuses) == 1 else None,
        "statuses": list(statuses) if len(statuses) > 1 else None,
        "workflow_ids": ids,
        "triggered_by": triggered_by,
        "labels": dict(labels) or None,
        "since": since,
        "until": until,
    }


def count(pool: Pool, many: Many) -> dict[str, Any]:
    """action; total: how many are meant, more: there are more than that; takes: how many of them take it as they stand.
    Raises NotFound for ids that name nothing."""
    chosen = selection(None if many.ids is None else list(many.ids), dict(many.filter or {}))
    parameters = chosen | {"takes": sorted(ACTIONS[many.action]), "limit": COUNTED + 1}
    row = run(pool, "count_executions", parameters, prepare=False)[0]
    if many.ids is not None and row["found"] < (wanted := len(set(many.ids))):
        raise NotFound(f"{wanted - row['found']} of the ids name no execution: nothing was changed")
    found, takes = min(row["found"], COUNTED), min(row["takes"], COUNTED)
    return {"action": many.action, "total": found, "more": row["found"] > COUNTED, "takes": takes}


def make_job(pool: Pool, many: Many, counted: Mapping[str, Any], actor: str, reason: str | None) -> Mapping[str, Any]:
    """The new job's row. `counted`: what `count` said. Executions that are made later are not meant."""
    parameters = {
        "id": time_ordered_uuid(),
        "action": many.action,
        "ids": None if many.ids is None else list(many.ids),
        "filter": None if many.filter is None else encode_json(dict(many.filter), what="the filter"),
        "actor": actor,
        "reason": reason,
        "total": None if counted["more"] else counted["total"],
    }
    return run(pool, "create_job", parameters)[0]


def said(many: Many, job: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit log keeps of it."""
    meant = {"filter": dict(many.filter)} if many.filter is not None else {"ids": len(many.ids or ())}
    return {"action": many.action, "reason": job["reason"], "total": job["total"], **meant}


def get_job(pool: Pool, job_id: UUID) -> Mapping[str, Any]:
    """With its errors. Raises NotFound."""
    rows = run(pool, "get_job", {"id": job_id})
    if not rows:
        raise NotFound(f"no job {job_id}")
    return rows[0]


def cancel_job(pool: Pool, job_id: UUID, actor: str, reason: str | None) -> tuple[bool, Mapping[str, Any]]:
    """Stops what is left of it; what was done stays done. Whether this did it (else it was cancelled before), and the job.
    Raises NotFound, and Refused if nothing is left."""
    (row,) = run(pool, "cancel_job", {"id": job_id, "actor": actor, "reason": reason})
    job = get_job(pool, job_id)
    if not row["done"] and row["job_status"] != "cancelled":
        raise Refused(f"job {job_id} is {job['status']}: nothing is left to cancel")
    return bool(row["done"]), job


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return [str(one) for one in value] if isinstance(value, list) else value
