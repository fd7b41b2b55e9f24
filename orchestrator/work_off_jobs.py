"""Works off controls of many executions, a page at a time. Any number of orchestrators may do it at once.

Invariant: an execution's control and the job's progress are one transaction (control_for_job in schema.sql), so that a job
whose orchestrator died goes on behind the last execution that was acted on. An execution whose control meets an error is
tried a few times, then counts as refused: it does not keep the others waiting. An outage of PostgreSQL is no try.
"""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from orchestrator.broker import StepBroker
from orchestrator.count_ends import count_execution
from orchestrator.plan import UNNAMED
from orchestrator.push import push_steps
from persistence.fault import statement_fault
from persistence.json_value import encode_json
from persistence.pool import Pool, run
from persistence.transitions import ready_steps

log = logging.getLogger(__name__)

PAGE = 100  # executions between two looks at what else there is to do
IDLE = 1.0  # seconds
TRIES = 3  # of one execution, 1 s and 2 s after the one before
SELECTION = ("status", "statuses", "workflow_ids", "triggered_by", "labels", "since", "until")


def work_off(pool: Pool, broker: StepBroker, lease_seconds: float) -> float:
    """A page of the job that waits longest; seconds until it is worth looking again."""
    jobs = run(pool, "claim_job", {"lease": lease_seconds})
    if not jobs:
        return IDLE
    (job,) = jobs
    rows = run(pool, "select_executions", _page(job), prepare=False)
    for row in rows:
        parameters = {"job": job["id"], "execution_id": row["id"], "created_at": row["created_at"]}
        try:
            told = run(pool, "control_for_job", {**parameters, "lease": lease_seconds})[0]
        except Exception as error:
            if (fault := statement_fault(error)) is None:
                raise
            if _given_up(pool, parameters, fault, lease_seconds):
                continue
            return 0.0
        if not told["recorded"]:
            return 0.0
        if told["done"]:
            push_steps(broker, ready_steps(told), changed=[row["id"]], force=True)
            if job["action"] == "cancel":
                count_execution(pool, row["id"], told["workflow"] or UNNAMED, "cancelled", "cancelled")
    run(pool, "leave_job", {"id": job["id"], "completed": len(rows) < PAGE})
    return 0.0


def _given_up(pool: Pool, parameters: dict[str, Any], fault: str, lease_seconds: float) -> bool:
    """Counts the try, once; whether it was the last."""
    tried = {**parameters, "error": fault, "tries": TRIES, "lease": lease_seconds}
    told = run(pool, "fail_for_job", tried, patience=None)[0]
    fate = "it counts as refused" if told["given_up"] else "it is tried again"
    log.warning("job %s: execution %s: %s; %s", parameters["job"], parameters["execution_id"], fault, fate)
    return bool(told["given_up"])


def _page(job: DictRow) -> dict[str, Any]:
    return {
        **selection(job["ids"], job["filter"] or {}),
        "at": job["cursor_at"],
        "id": job["cursor_id"],
        "limit": PAGE,
    }


def selection(ids: list[UUID] | None, chosen: dict[str, Any]) -> dict[str, Any]:
    """The parameters of select_executions.sql. `chosen`: by the names of SELECTION, as JSON."""
    found: dict[str, Any] = {"ids": ids, **{name: chosen.get(name) for name in SELECTION}}
    if found["workflow_ids"] is not None:
        found["workflow_ids"] = [UUID(one) for one in found["workflow_ids"]]
    if found["labels"] is not None:
        found["labels"] = encode_json(found["labels"])
    return found
