"""Executions in numbers, for the pages that list them and act on many."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from orchestrator.broker import StepBroker
from orchestrator.hints import write_hint
from orchestrator.outcome import Failed
from orchestrator.work_off_jobs import work_off
from persistence.pool import Pool
from persistence.settings import Settings
from tests.drive import drive, submit
from tests.workflows import FunctionTools, sequence


def make_rows(pool: Pool, count: int, status: str = "completed", **columns: object) -> None:
    """Executions without steps, the last of them the newest; titles `<status> 1` and so on. `age`: of the newest."""
    given = {"title": None, "error": None, "triggered_by": "ada", "labels": "{}", "age": timedelta(0), **columns}
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO workflow_executions (status, title, error, triggered_by, labels, created_at, started_at)"
            " SELECT %(status)s::text, coalesce(%(title)s, %(status)s::text || ' ' || n), %(error)s, %(triggered_by)s,"
            " %(labels)s::jsonb, t.at, t.at FROM generate_series(1, %(count)s) n,"
            " LATERAL (SELECT now() - %(age)s - (%(count)s - n) * interval '1 second') t(at)",
            {"status": status, "count": count, **given},
        )


def make_failed(pool: Pool, count: int, kind: str = "tool_error", **request: object) -> list[UUID]:
    """Executions of ours that failed, oldest first; titles `broken 0` and so on. `kind`: of the step's error."""
    found = [submit(pool, sequence(1), **{"title": f"broken {number}", **request}) for number in range(count)]
    for execution_id in found:
        drive(pool, execution_id, FunctionTools(echo=lambda **_: Failed(kind, "no")))
    return found


def make_many_failed(pool: Pool, count: int) -> None:
    """So many executions of ours that failed."""
    (first,) = make_failed(pool, 1)
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO workflow_executions (status, definition_hash, title, created_at, started_at)"
            " SELECT e.status, e.definition_hash, 'copy ' || n, e.created_at, e.started_at"
            " FROM workflow_executions e, generate_series(2, %s) n WHERE e.id = %s",
            (count, first),
        )


def work_off_all(pool: Pool, settings: Settings) -> None:
    """All jobs that there are."""
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    try:
        while work_off(pool, broker, 30.0) == 0.0:
            pass
    finally:
        broker.close()


def tell(settings: Settings, execution_id: UUID) -> UUID:
    """Live readers that it changed, as whoever commits a change does; without it they look every 5 s."""
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    try:
        broker.publish(write_hint([execution_id]))
    finally:
        broker.close()
    return execution_id


def audited(pool: Pool) -> list[tuple[str, str | None]]:
    """Actions and targets, in their order."""
    with pool.connection() as connection:
        rows = connection.execute("SELECT action, target FROM audit_log ORDER BY id").fetchall()
    return [(row["action"], row["target"]) for row in rows]
