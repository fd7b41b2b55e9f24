"""The made-up executions: gone through the real transitions, in the past, the same for the same seed, and removable."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from control_center.demo.make_demo_data import WAITING, _remove, make
from persistence.executions import get_execution_steps
from persistence.pool import Pool
from persistence.settings import Settings
from tests.workflows import assert_invariants_at_rest

NOW = datetime.now(UTC)


@pytest.fixture
def made(pool: Pool, settings: Settings) -> list[dict[str, object]]:
    assert make(pool, settings, 3, 25, 9, NOW) == 75 + WAITING
    with pool.connection() as connection:
        return connection.execute("SELECT * FROM workflow_executions ORDER BY created_at").fetchall()


def test_demo_data_shows_what_executions_can_come_to(pool: Pool, made: list[dict[str, object]]) -> None:
    past = [row for row in made if not str(row["title"]).startswith("Slow check")]
    assert {row["status"] for row in past} >= {"completed", "failed", "paused"}
    assert all(row["labels"]["demo"] == "true" for row in past if row["forked_from"] is None)  # type: ignore[index]
    statuses: Counter[str] = Counter()
    for row in past:
        if row["status"] == "completed":
            assert_invariants_at_rest(pool, row["id"])  # type: ignore[arg-type]
        for step in get_execution_steps(pool, row["id"]):  # type: ignore[arg-type]
            statuses[step["status"]] += 1
            statuses["retried"] += step["retry_count"] > 0
            if step["completed_at"] is not None and step["started_at"] is not None:
                assert row["created_at"] <= step["started_at"] <= step["completed_at"] <= NOW  # type: ignore[operator]
                taken = (step["completed_at"] - step["started_at"]) / timedelta(milliseconds=1)
                assert step["duration_ms"] == pytest.approx(taken, abs=1)
    assert all(statuses[name] for name in ("completed", "skipped", "failed", "retried")), statuses
    span = max(row["created_at"] for row in past) - min(row["created_at"] for row in past)  # type: ignore[type-var, operator]
    assert timedelta(days=2) < span < timedelta(days=3)


def test_days_cost_what_their_steps_cost(pool: Pool, made: list[dict[str, object]]) -> None:
    with pool.connection() as connection:
        days = connection.execute(
            "SELECT sum(cost_nanos) AS cost, count(DISTINCT day) AS days FROM cost_days"
        ).fetchone()
        steps = connection.execute("SELECT sum(cost_nanos) AS cost FROM workflow_steps").fetchone()
    assert days is not None
    assert steps is not None
    assert days["cost"] == steps["cost"] > 0  # type: ignore[call-overload]
    assert days["days"] > 1  # type: ignore[call-overload]


def test_the_same_seed_makes_the_same_executions(pool: Pool, settings: Settings, made: list[dict[str, object]]) -> None:
    first = Counter((row["title"], row["status"], row["error"]) for row in made)
    list(_remove(pool))
    make(pool, settings, 3, 25, 9, NOW)
    with pool.connection() as connection:
        again = connection.execute("SELECT title, status, error FROM workflow_executions").fetchall()
    assert Counter((row["title"], row["status"], row["error"]) for row in again) == first  # type: ignore[call-overload]


def test_demo_data_is_removed_and_nothing_else(pool: Pool, settings: Settings, made: list[dict[str, object]]) -> None:
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_executions SET labels = '{}' WHERE id = %s", [made[0]["id"]])
    assert sum(_remove(pool)) == len(made) - 1
    with pool.connection() as connection:
        left = connection.execute("SELECT id FROM workflow_executions").fetchall()
    assert [row["id"] for row in left] == [made[0]["id"]]  # type: ignore[call-overload]
