"""The original's persistence operations, and the state they reconstruct."""

from __future__ import annotations

from uuid import uuid4

import pytest

from persistence.errors import InvalidInput, NotFound, Unreachable
from persistence.executions import (
    create_execution,
    create_step,
    find_execution,
    get_execution,
    get_execution_steps,
    get_recent_executions,
    increment_step_retry,
    reconstruct_execution,
    update_execution_context,
    update_execution_status,
    update_step,
)
from persistence.pool import Pool, check_database, open_pool


def test_an_execution_recorded_by_hand_is_reconstructed(pool: Pool) -> None:
    """The original's whole sequence: create, step, retry, context, end."""
    execution_id = create_execution(
        pool, None, {"issue_number": 123}, {"repo": {"owner": "o"}}, "user@example", "run-123"
    )
    step_id = create_step(pool, execution_id, "fetch_issue", 0, {"number": 123})
    increment_step_retry(pool, step_id)
    update_step(pool, step_id, "completed", {"title": "Bug"}, None, 1234)
    update_execution_context(pool, execution_id, {"variables": {"issue": {"title": "Bug"}}})
    update_execution_status(pool, execution_id, "completed", {"issue": {"title": "Bug"}}, None)
    assert reconstruct_execution(pool, execution_id) == {
        "executionId": str(execution_id),
        "status": "completed",
        "input": {"issue_number": 123},
        "context": {"variables": {"issue": {"title": "Bug"}}},
        "steps": [
            {"name": "fetch_issue", "status": "completed", "output": {"title": "Bug"}, "duration": 1234, "retries": 1}
        ],
    }
    execution = get_execution(pool, execution_id)
    assert execution is not None
    assert (execution["triggered_by"], execution["github_run_id"]) == ("user@example", "run-123")
    assert execution["completed_at"] is not None
    (step,) = get_execution_steps(pool, execution_id)
    assert step["attempt"] == 1 + step["retry_count"]


def test_the_reaper_leaves_what_was_recorded_by_hand_alone(pool: Pool) -> None:
    """A running step without a worker belongs to whoever made it."""
    from persistence.pool import run

    execution_id = create_execution(pool, None, None, None)
    create_step(pool, execution_id, "mine", 0, None)
    assert run(pool, "reap_steps", {"silence": 0, "max_lost": 3, "limit": 10}) == []
    assert run(pool, "stuck_executions", {"limit": 10}) == []


def test_recent_executions_come_newest_first(pool: Pool) -> None:
    """At most `limit` of them."""
    ids = [create_execution(pool, None, {"n": n}, None) for n in range(3)]
    assert [row["id"] for row in get_recent_executions(pool, 2)] == [ids[2], ids[1]]


@pytest.mark.parametrize("value", [{"a": "x\0y"}, float("nan"), "\ud800"])
def test_what_jsonb_cannot_hold_is_refused_by_name(pool: Pool, value: object) -> None:
    """NUL characters, NaN and lone surrogates: a clear error and no row."""
    with pytest.raises(InvalidInput, match="the input cannot be stored as JSON"):
        create_execution(pool, None, value, None)
    assert get_recent_executions(pool) == []


def test_unknown_ids_statuses_and_duplicates_are_answered_clearly(pool: Pool) -> None:
    """Nothing is written."""
    execution_id = create_execution(pool, None, None, None)
    create_step(pool, execution_id, "one", 0, None)
    with pytest.raises(InvalidInput, match="'done' is not a status"):
        update_execution_status(pool, execution_id, "done")
    with pytest.raises(InvalidInput, match="has a step with index 0"):
        create_step(pool, execution_id, "again", 0, None)
    with pytest.raises(NotFound):
        create_step(pool, uuid4(), "nowhere", 0, None)
    with pytest.raises(NotFound):
        update_step(pool, uuid4(), "completed")
    with pytest.raises(NotFound):
        reconstruct_execution(pool, uuid4())


def test_the_beginning_of_an_id_finds_its_execution(pool: Pool) -> None:
    """Unless it is no id, unknown, or the beginning of two."""
    first, second = create_execution(pool, None, None, None), create_execution(pool, None, None, None)
    assert find_execution(pool, str(first)) == first
    assert find_execution(pool, str(second)[:35]) in (first, second)
    with pytest.raises(InvalidInput, match="more than one"):
        find_execution(pool, str(first)[:6])
    with pytest.raises(InvalidInput, match="not an execution id"):
        find_execution(pool, "zebra")
    with pytest.raises(NotFound):
        find_execution(pool, str(uuid4()))


def test_a_database_that_is_not_there_is_said_to_be_unreachable() -> None:
    """Refused, unknown host or wrong name: one line, no stack trace."""
    with pytest.raises(Unreachable, match="PostgreSQL does not answer"):
        open_pool("postgresql://127.0.0.1:1/nowhere")
    assert not check_database(None)


def test_a_cut_connection_is_replaced_without_the_caller_noticing(pool: Pool) -> None:
    """Half an outage is no outage: the statement runs again on a new connection."""
    with pool.connection() as connection:
        (pid,) = connection.execute("SELECT pg_backend_pid() AS pid").fetchone().values()  # type: ignore[union-attr]
    with open_pool(pool.conninfo) as other, other.connection() as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
    assert check_database(pool)
