"""Jobs over HTTP: listed in pages, cancelled in the middle, by whoever may."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from control_center.client import Client
from control_center.keys import Trust
from orchestrator import work_off_jobs
from orchestrator.broker import StepBroker
from orchestrator.work_off_jobs import work_off
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.api_server import running_api
from tests.drive import status_of
from tests.integration.test_api import make_key, problem
from tests.integration.test_jobs import LEASE, api, broker, controls, job_of, many, state, work_all

__all__ = ["api", "broker"]  # fixtures
JOBS = "/api/workflow/jobs"


def test_jobs_are_listed_in_pages_newest_first(api: httpx.Client, pool: Pool, broker: StepBroker) -> None:
    """By status too; a cursor is of its own listing."""
    many(pool, 1)
    made = [job_of(api, action="pause", filter={"status": "running"})["id"] for _ in range(3)]
    first = api.get(JOBS, params={"limit": 2})
    assert [job["id"] for job in first.json()["jobs"]] == made[:0:-1]
    assert (first.json()["total"], first.json()["hasMore"]) == (2, True)
    assert "errors" not in first.json()["jobs"][0]
    second = api.get(first.links["next"]["url"]).json()
    assert ([job["id"] for job in second["jobs"]], second["nextCursor"], second["hasMore"]) == (made[:1], None, False)
    api.post(f"{JOBS}/{made[1]}/cancel")
    work_all(pool, broker)
    listed = {
        status: [job["id"] for job in api.get(JOBS, params={"status": status}).json()["jobs"]] for status in STATUSES
    }
    assert listed == {"pending": [], "running": [], "completed": [made[2], made[0]], "cancelled": [made[1]]}
    cursor = first.json()["nextCursor"]
    problem(api.get(JOBS, params={"cursor": cursor, "status": "pending"}), 400, "foreign-cursor")
    problem(api.get(JOBS, params={"status": "paused"}), 422, "invalid-request")
    problem(api.get(JOBS, params={"state": "pending"}), 400, "unknown-parameter")


STATUSES = ("pending", "running", "completed", "cancelled")


def test_a_job_is_cancelled_in_the_middle(
    api: httpx.Client,
    pool: Pool,
    broker: StepBroker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was done stays done, the rest is left alone; who and why stand in the job and in the audit log, once."""
    monkeypatch.setattr(work_off_jobs, "PAGE", 2)
    ids = sorted(many(pool, 5), reverse=True)
    job = job_of(api, action="pause", filter={"status": "running"})
    work_off(pool, broker, LEASE)
    rows = {row["id"]: row["created_at"] for row in run(pool, "get_recent_executions", {"limit": 10})}
    (claimed,) = run(pool, "claim_job", {"lease": LEASE})
    stopped = api.post(f"{JOBS}/{job['id']}/cancel", json={"reason": "a mistake"})
    assert stopped.status_code == 200
    told = stopped.json()
    assert (told["status"], told["done"], told["cancelledBy"], told["cancelReason"]) == (
        "cancelled",
        2,
        "anonymous",
        "a mistake",
    )
    at_work = {"job": claimed["id"], "execution_id": ids[2], "created_at": rows[ids[2]], "lease": LEASE}
    assert run(pool, "control_for_job", at_work)[0]["recorded"] is False, "whoever was at work stops"
    assert run(pool, "fail_for_job", at_work | {"error": "x", "tries": 1})[0]["recorded"] is False
    run(pool, "leave_job", {"id": claimed["id"], "completed": True})
    work_all(pool, broker)
    assert state(api, job) == ("cancelled", 5, 2, 0)
    assert [status_of(pool, one) for one in ids] == ["paused"] * 2 + ["running"] * 3
    assert sum(controls(pool).values()) == 2
    again = api.post(f"{JOBS}/{job['id']}/cancel", json={"reason": "another"})
    assert (again.status_code, again.json()) == (200, told)
    with pool.connection() as connection:
        audited = connection.execute("SELECT target, detail FROM audit_log WHERE action = 'job.cancel'").fetchall()
    assert audited == [{"target": job["id"], "detail": {"reason": "a mistake"}}]


def test_a_job_that_has_completed_is_not_cancelled(api: httpx.Client, pool: Pool, broker: StepBroker) -> None:
    """Nor one that is not there."""
    job = job_of(api, action="pause", ids=[str(many(pool, 1)[0])])
    work_all(pool, broker)
    body = problem(api.post(f"{JOBS}/{job['id']}/cancel"), 409, "action-refused")
    assert "nothing is left to cancel" in body["detail"]
    assert "executionStatus" not in body
    assert state(api, job)[0] == "completed"
    problem(api.post(f"{JOBS}/{job['id'][:-4]}0000/cancel"), 404, "not-found")
    problem(api.post(f"{JOBS}/{job['id']}/cancel", json={"reason": "x" * 2001}), 422, "invalid-request")


def test_operators_cancel_and_viewers_look(settings: Settings, pool: Pool) -> None:
    """Like other controls."""
    with running_api(settings, Trust(keys=True)) as url:

        def as_(role: Any) -> httpx.Client:
            return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {make_key(pool, role)}"})

        with as_("operator") as operator, as_("submitter") as submitter, as_("viewer") as viewer:
            job = job_of(operator, action="pause", ids=[str(many(pool, 1)[0])])
            problem(submitter.post(f"{JOBS}/{job['id']}/cancel"), 403, "forbidden")
            assert viewer.get(JOBS).json()["jobs"][0]["status"] == "pending"
            problem(httpx.get(f"{url}{JOBS}"), 401, "unauthenticated")
            assert operator.post(f"{JOBS}/{job['id']}/cancel").json()["status"] == "cancelled"


def test_the_client_lists_and_cancels(settings: Settings, pool: Pool) -> None:
    """As values."""
    ids = many(pool, 2)
    with running_api(settings) as url, Client(url) as client:
        made = [client.control_many("pause", ids=ids).id for _ in range(2)]
        stopped = client.cancel_job(made[0], reason="enough")
        assert (stopped.status, stopped.cancel_reason, stopped.failed) == ("cancelled", "enough", 0)
        assert [one.id for one in client.jobs(limit=10)] == made[::-1]
        assert [one.id for one in client.jobs(limit=10, status="cancelled")] == made[:1]
