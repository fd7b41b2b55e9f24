"""Job: a control of many executions on its way, and what it met."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request, Response

from control_center.api.audit import audit
from control_center.dashboard.pages import Form, Reader, go, must, page, why_not
from control_center.make_job import cancel_job, get_job
from persistence.pool import Pool

router = APIRouter(prefix="/ui/jobs", include_in_schema=False)


@router.get("/{job_id}")
def show_job(request: Request, reader: Reader, job_id: UUID) -> Response:
    job = get_job(request.app.state.read_pool, job_id)
    come = job["done"] + job["refused"]
    return page(
        request,
        "job.html",
        reader=reader,
        job=job,
        come=come,
        share=min(100.0, 100 * come / job["total"]) if job["total"] else 0.0,
        open=job["status"] in ("pending", "running"),
        why_not=why_not(reader, "operator"),
    )


@router.post("/{job_id}/cancel")
def stop_job(request: Request, reader: Reader, job_id: UUID, given: Form) -> Response:
    """What was done stays done."""
    must(reader, "operator")
    pool: Pool = request.app.state.pool
    reason = given.get("reason", "").strip()[:2000] or None
    new, _ = cancel_job(pool, job_id, reader.name, reason)
    if new:
        audit(pool, reader, "job.cancel", str(job_id), {"reason": reason})
    return go(request, f"/ui/jobs/{job_id}")
