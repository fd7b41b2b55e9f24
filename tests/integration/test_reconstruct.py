"""What an execution was at any moment, told from its rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.control import Controller, Wish
from orchestrator.outcome import Failed
from orchestrator.read_state import read_state
from persistence.errors import NotFound
from persistence.pool import Pool
from tests.drive import drive, drive_some, submit
from tests.workflows import FunctionTools, echo, sequence


def state(pool: Pool, execution_id: UUID, at: datetime | None = None) -> dict[str, Any]:
    return read_state(pool, execution_id, at)


def now(pool: Pool) -> datetime:
    """By the database's clock, in a transaction of its own: between those before and those after."""
    with pool.connection() as connection:
        row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row["clock_timestamp"] if isinstance(row, dict) else row[0]
    return moment


def test_every_moment_of_a_long_life_is_told_as_it_was(pool: Pool) -> None:
    """Snapshots taken while it lived equal what is told of those moments afterwards."""
    broken = [True]
    tools = FunctionTools(
        echo=lambda **given: Failed("tool_error", "it broke") if given["value"] == 2 and broken[0] else echo(**given)
    )
    controller = Controller(pool, None)
    execution_id = submit(pool, sequence(4, retry={"maxAttempts": 2, "initialDelayMs": 100}))
    moments: list[tuple[datetime, dict[str, Any]]] = []

    def look() -> None:
        moments.append((now(pool), state(pool, execution_id)))

    def control(action: str, **more: Any) -> None:
        controller.carry_out(execution_id, Wish(action, actor="ada", **more))
        look()

    look()
    drive_some(pool, execution_id, tools, 2)
    look()
    control("pause")
    control("resume")
    assert drive(pool, execution_id, tools) == "failed"
    look()
    broken[0] = False
    control("retry")
    drive(pool, execution_id, tools)
    look()
    control("rerun", step="step_1")
    drive_some(pool, execution_id, tools, 1)
    look()
    control("cancel")
    control("retry")
    drive(pool, execution_id, tools)
    look()
    lived = [seen["status"] for _, seen in moments]
    assert lived[:6] == ["running", "running", "paused", "running", "failed", "running"]
    assert lived[6:] == ["completed", "running", "running", "cancelled", "running", "completed"]
    for moment, seen in moments:
        told = state(pool, execution_id, moment)
        assert told["status"] == seen["status"]
        assert [(step["name"], step["status"], step["output"]) for step in told["steps"]] == [
            (step["name"], step["status"], step["output"]) for step in seen["steps"]
        ]
        assert told["context"]["variables"] == seen["context"]["variables"]
    assert state(pool, execution_id, datetime.now(UTC) + timedelta(days=1)) == state(pool, execution_id)


def test_a_moment_in_the_middle_of_a_call(pool: Pool) -> None:
    seen: list[datetime] = []

    def slow(**given: Any) -> Any:
        seen.append(now(pool))
        return echo(**given)

    execution_id = submit(pool, sequence(2))
    drive(pool, execution_id, FunctionTools(echo=slow))
    told = state(pool, execution_id, seen[1])
    assert [step["status"] for step in told["steps"]] == ["completed", "running"]
    assert told["status"] == "running"
    assert told["context"]["variables"].keys() == {"v0"}


def test_a_moment_before_it_was_made(pool: Pool) -> None:
    execution_id = submit(pool, sequence(1))
    with pytest.raises(NotFound, match="after that moment"):
        state(pool, execution_id, datetime(2020, 1, 1, tzinfo=UTC))


def test_the_state_object_is_the_originals(pool: Pool) -> None:
    execution_id = submit(pool, sequence(1))
    drive(pool, execution_id, FunctionTools(echo=echo))
    told = state(pool, execution_id)
    assert told.keys() == {"executionId", "status", "input", "context", "steps"}
    (step,) = told["steps"]
    assert step.keys() == {"name", "status", "output", "duration", "retries"}
    assert (told["executionId"], told["input"], step["retries"]) == (str(execution_id), {"n": 7}, 0)
