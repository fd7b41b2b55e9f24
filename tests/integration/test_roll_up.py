"""Rollups: every end is counted once, whoever counts, whoever dies, and whatever a person does with the rows meanwhile."""

from __future__ import annotations

import re
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from control_center.demo.make_demo_data import make
from control_center.read_stats import Stat, Window, _spans, find_window, read_errors, read_stats, total_of
from orchestrator.broker import StepBroker
from orchestrator.control import Controller, Wish
from orchestrator.outcome import Failed
from orchestrator.recover import Recovery
from orchestrator.roll_up import AT_ONCE, BUCKET, roll_up
from persistence.pool import Pool, run
from persistence.settings import Settings
from persistence.statements import statement
from tests.drive import drive, submit
from tests.fleet import wait_until
from tests.workflows import FunctionTools, echo, sequence

LONG_AGO = datetime.now(UTC).replace(hour=10, minute=0, second=0, microsecond=0) - timedelta(days=60)
LATELY = LONG_AGO + timedelta(days=56)


def fail(**given: Any) -> Any:
    return Failed("tool_error", f"HTTP 503 after {given['value']} ms, request {uuid4()}")


def moved(pool: Pool, execution_id: UUID, start: datetime) -> UUID:
    run(pool, "move_execution", {"id": execution_id, "start": start, "stretch": 1})
    return execution_id


def completed(pool: Pool, start: datetime, steps: int = 2) -> UUID:
    execution_id = submit(pool, sequence(steps))
    assert drive(pool, execution_id, FunctionTools(echo=echo)) == "completed"
    return moved(pool, execution_id, start)


def failed(pool: Pool, start: datetime, **step: Any) -> UUID:
    execution_id = submit(pool, sequence(2, **step))
    assert drive(pool, execution_id, FunctionTools(echo=fail)) == "failed"
    return moved(pool, execution_id, start)


def control(pool: Pool, execution_id: UUID, action: str, **more: Any) -> UUID:
    return Controller(pool, None).carry_out(execution_id, Wish(action, actor="ada", **more)).execution_id


def roll_all(pool: Pool, lag: float = 60.0) -> None:
    while roll_up(pool, lag) == 0.0:
        pass


def query(pool: Pool, text: str, *parameters: Any) -> list[dict[str, Any]]:
    with pool.connection() as connection:
        return connection.execute(text.encode(), parameters or None).fetchall()


def executions(pool: Pool, seconds: int = 86_400) -> Counter[str]:
    rows = query(
        pool, "SELECT status, sum(endings)::int AS n FROM execution_rollups WHERE seconds = %s GROUP BY 1", seconds
    )
    return Counter({row["status"]: row["n"] for row in rows})


def steps(pool: Pool, seconds: int = 86_400) -> Counter[str]:
    rows = query(
        pool, "SELECT outcome, sum(endings)::int AS n FROM step_rollups WHERE seconds = %s GROUP BY 1", seconds
    )
    return Counter({row["outcome"]: row["n"] for row in rows})


def test_what_ended_is_counted_in_its_buckets(pool: Pool) -> None:
    for minute in (0, 1, 7, 59, 60, 60 * 24):
        completed(pool, LATELY + timedelta(minutes=minute))
    failed(pool, LATELY)
    roll_all(pool)
    assert executions(pool) == {"completed": 6, "failed": 1}
    assert steps(pool) == {"completed": 12, "failed": 1}
    buckets = "SELECT bucket, sum(endings)::int AS n FROM execution_rollups WHERE seconds = %s GROUP BY 1 ORDER BY 1"
    day, hour = LATELY.replace(hour=0), timedelta(hours=1)
    days = {row["bucket"]: row["n"] for row in query(pool, buckets, 86_400)}
    assert days == {day: 6, day + 24 * hour: 1}
    hours = {row["bucket"]: row["n"] for row in query(pool, buckets, 3600)}
    assert hours == {LATELY: 5, LATELY + hour: 1, LATELY + 24 * hour: 1}


def test_five_minutes_an_hour_and_a_day_say_the_same(pool: Pool) -> None:
    now = datetime.now(UTC)
    for minutes in (20, 21, 90, 60 * 5):
        completed(pool, now - timedelta(minutes=minutes))
    failed(pool, now - timedelta(minutes=30), retry={"maxAttempts": 3, "initialDelayMs": 100})
    roll_all(pool)
    for seconds in (300, 3600, 86_400):
        assert executions(pool, seconds) == {"completed": 4, "failed": 1}
        assert steps(pool, seconds) == {"completed": 8, "failed": 1, "retried": 2}
    assert len(query(pool, "SELECT DISTINCT bucket FROM execution_rollups WHERE seconds = 300")) >= 4


def test_a_second_look_counts_nothing_again(pool: Pool) -> None:
    completed(pool, LONG_AGO)
    roll_all(pool)
    roll_all(pool)
    assert executions(pool) == {"completed": 1}


def test_a_time_without_an_end_is_passed_over(pool: Pool) -> None:
    """After a long outage too."""
    for start in (LONG_AGO, LATELY):
        completed(pool, start)
    looks = 1
    while roll_up(pool) == 0.0:
        looks += 1
    assert looks <= 5
    assert executions(pool) == {"completed": 2}


def test_what_is_not_long_past_waits(pool: Pool) -> None:
    """A transaction under way may still end something in the bucket."""
    submit_id = submit(pool, sequence(1))
    drive(pool, submit_id, FunctionTools(echo=echo))
    roll_all(pool)
    assert executions(pool) == {}
    roll_all(pool, lag=-BUCKET)
    assert executions(pool) == {"completed": 1}


def test_a_transaction_under_way_is_waited_for(pool: Pool, dsn: str) -> None:
    """However long it takes: what it ends carries the time at which it began."""
    execution_id = submit(pool, sequence(1))
    (step,) = query(pool, "SELECT id FROM workflow_steps WHERE execution_id = %s", execution_id)
    with psycopg.connect(dsn) as slow:
        slow.execute("UPDATE workflow_steps SET status = 'completed', completed_at = now() WHERE id = %s", [step["id"]])
        roll_all(pool, lag=-BUCKET)
        assert steps(pool) == {}
        slow.commit()
    roll_all(pool, lag=-BUCKET)
    assert steps(pool) == {"completed": 1}


def test_whoever_dies_while_counting_has_counted_nothing(pool: Pool, dsn: str) -> None:
    completed(pool, LONG_AGO)
    roll_up(pool)
    with psycopg.connect(dsn) as dying:
        told = dying.execute(statement("roll_up"), {"lag": 60, "seconds": AT_ONCE * 24 * 365}).fetchone()
        assert told is not None
        assert told[2]
        assert run(pool, "roll_up", {"lag": 60, "seconds": AT_ONCE}) == [], "another one is at it: nobody waits"
        dying.rollback()
    assert executions(pool) == {}
    roll_all(pool)
    assert executions(pool) == {"completed": 1}


def test_many_who_count_at_once_count_each_end_once(pool: Pool) -> None:
    start = datetime.now(UTC) - timedelta(hours=30)
    for number in range(40):
        completed(pool, start + timedelta(minutes=43 * number), steps=1)
    threads = [threading.Thread(target=roll_all, args=(pool,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    roll_all(pool)
    assert executions(pool) == executions(pool, 300) == {"completed": 40}
    assert steps(pool) == steps(pool, 300) == {"completed": 40}


@pytest.mark.parametrize("counted_before", [True, False])
def test_what_a_person_runs_again_is_one_more_end(pool: Pool, counted_before: bool) -> None:
    """Whether the first end was counted before the control or has to be told from what it replaced."""
    start = datetime.now(UTC) - timedelta(hours=3)
    execution_id = failed(pool, start)
    if counted_before:
        roll_all(pool)
        assert executions(pool) == {"failed": 1}
    control(pool, execution_id, "retry")
    drive(pool, execution_id, FunctionTools(echo=echo))
    control(pool, execution_id, "rerun", step="step_1")
    drive(pool, execution_id, FunctionTools(echo=echo))
    roll_all(pool, lag=-BUCKET)
    assert executions(pool) == {"failed": 1, "completed": 2}
    assert steps(pool) == {"failed": 1, "completed": 3}, "step_0 and step_1, and step_1 once more"
    (took,) = query(pool, "SELECT sum(duration_ms)::int AS ms FROM execution_rollups WHERE seconds = 86400")
    assert took["ms"] < 60_000, "what a person waited before a retry is no time of the execution's"


def test_a_fork_counts_what_it_ran_itself(pool: Pool) -> None:
    source = completed(pool, datetime.now(UTC) - timedelta(hours=1), steps=3)
    roll_all(pool)
    fork = control(pool, source, "fork", step="step_2")
    drive(pool, fork, FunctionTools(echo=echo))
    roll_all(pool, lag=-BUCKET)
    assert executions(pool) == {"completed": 2}
    assert steps(pool) == {"completed": 4}
    control(pool, fork, "rerun", step="step_0")
    drive(pool, fork, FunctionTools(echo=echo))
    drive(pool, control(pool, source, "fork", step="step_2"), FunctionTools(echo=echo))
    query(pool, "UPDATE rollup_progress SET rolled_until = rolled_until - interval '1 day' RETURNING 1")
    for table in ("execution_rollups", "step_rollups"):
        query(pool, f"DELETE FROM {table} RETURNING 1")  # noqa: S608
    roll_all(pool, lag=-2 * BUCKET)
    assert steps(pool) == {"completed": 3 + 1 + 3 + 1}, "results that were taken over ended in the source alone"


def test_lost_attempts_are_told_apart(pool: Pool) -> None:
    execution_id = submit(pool, sequence(1))
    (step,) = query(pool, "SELECT id FROM workflow_steps WHERE execution_id = %s", execution_id)
    run(
        pool,
        "claim_steps",
        {"step_ids": [step["id"]], "attempts": [0], "worker_id": uuid4(), "timeout_ms": 1000},
    )
    assert len(run(pool, "reap_steps", {"silence": 30, "max_lost": 3, "limit": 10})) == 1
    drive(pool, execution_id, FunctionTools(echo=echo))
    roll_all(pool, lag=-BUCKET)
    assert steps(pool) == {"completed": 1, "retried": 1, "lost": 1}


def test_counts_outlive_the_rows(pool: Pool) -> None:
    completed(pool, LONG_AGO)
    roll_all(pool)
    query(pool, "DELETE FROM workflow_executions RETURNING id")
    roll_all(pool)
    assert (executions(pool), steps(pool)) == ({"completed": 1}, {"completed": 2})


def test_an_hour_at_once_counts_as_five_minutes_do(pool: Pool) -> None:
    start = datetime.now(UTC) - timedelta(hours=5)
    for number in range(12):
        (failed if number % 3 == 0 else completed)(pool, start + timedelta(minutes=17 * number))
    tables = ("execution_rollups", "step_rollups", "error_rollups", "error_shapes")
    seen = []
    for seconds in (AT_ONCE, BUCKET):
        query(pool, "DELETE FROM rollup_progress RETURNING 1")
        for table in tables:
            query(pool, f"DELETE FROM {table} RETURNING 1")  # noqa: S608
        while not run(pool, "roll_up", {"lag": 60, "seconds": seconds})[0]["done"]:
            pass
        seen.append([query(pool, f"SELECT * FROM {table} ORDER BY {table}") for table in tables])  # noqa: S608
    assert seen[0] == seen[1]
    assert all(seen[0])


@pytest.mark.parametrize("night", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)])
def test_the_night_of_the_clock_change_has_24_hours(pool: Pool, dsn: str, night: datetime) -> None:
    """For a session in Berlin as in UTC: an execution each half hour, two in each hour's bar, none lost and none doubled."""
    for number in range(-2, 12):
        completed(pool, night + timedelta(minutes=30 * number), steps=1)
    found = []
    for name in ("UTC", "Europe/Berlin"):
        for table in ("execution_rollups", "step_rollups"):
            query(pool, f"DELETE FROM {table} RETURNING 1")  # noqa: S608
        until = night + timedelta(hours=8)
        with psycopg.connect(dsn) as local:
            local.execute(f"SET timezone = '{name}'".encode())
            for part in range(10):  # an hour each
                begin = night + timedelta(hours=part - 2)
                local.execute("SELECT count_executions_ended(%s, %s, NULL)", (begin, begin + timedelta(hours=1)))
        window = Window("24h", until - timedelta(hours=24), until, 3600, until)
        bars = read_stats(pool, window, "time")
        assert len(bars) == 24
        found.append([(one.at, one.endings) for one in bars if one.endings])
        days = query(pool, "SELECT DISTINCT bucket FROM execution_rollups WHERE seconds = 86400 ORDER BY 1")
        assert [row["bucket"] for row in days] == [night - timedelta(days=1), night]
    assert found[0] == found[1] == [(night + timedelta(hours=hour), 2) for hour in range(-1, 6)]


def test_errors_are_told_apart_by_what_does_not_differ_each_time(pool: Pool) -> None:
    start = datetime.now(UTC) - timedelta(hours=2)
    ids = [failed(pool, start + timedelta(minutes=10 * number)) for number in range(3)]
    roll_all(pool)
    (error,) = read_errors(pool, find_window(pool, "24h"))
    assert (error["failures"], error["kind"], error["tool"]) == (3, "tool_error", "test.echo")
    assert error["shape"] == "HTTP 503 after <n> ms, request <id>"
    assert error["example"] == ids[-1]
    assert error["last_seen"] - error["first_seen"] == pytest.approx(timedelta(minutes=20), abs=timedelta(seconds=5))


def test_texts_without_end_make_no_table_without_end(pool: Pool) -> None:
    """Those that are too many for five minutes are counted together."""
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    words = iter(range(10_000))
    letters = "abcdefghij"

    def differ(**_: Any) -> Any:
        return Failed("tool_error", "no " + "".join(letters[int(digit)] for digit in f"{next(words):04d}"))

    workflow = sequence(60, config={"continueOnError": True})
    execution_id = submit(pool, workflow)
    drive(pool, execution_id, FunctionTools(echo=differ))
    moved(pool, execution_id, start)
    roll_all(pool)
    found = read_errors(pool, find_window(pool, "24h"), most=100)
    assert len(found) == 51
    assert found[0]["fingerprint"] == "other"
    assert sum(one["failures"] for one in found) == 60


def test_the_dearest_executions_of_a_day_are_kept(pool: Pool) -> None:
    """Twenty of them, however many there were and in whatever order they ended."""
    start = datetime.now(UTC).replace(hour=0, minute=1) - timedelta(days=1)
    for number in range(25):
        execution_id = completed(pool, start + timedelta(minutes=30 * number), steps=1)
        query(
            pool,
            "UPDATE workflow_executions SET cost_nanos = %s WHERE id = %s RETURNING 1",
            1 + number * 7 % 25,
            execution_id,
        )
    roll_all(pool)
    found = run(pool, "dearest_executions", {"days": 7, "limit": 100})
    assert [row["cost_nanos"] for row in found] == list(range(25, 5, -1))
    assert all(row["kept"] for row in found)
    assert run(pool, "dearest_executions", {"days": 1, "limit": 100}) == []


def test_old_buckets_give_way_to_longer_ones(pool: Pool) -> None:
    for days in (1, 8, 60):
        completed(pool, datetime.now(UTC) - timedelta(days=days))
    roll_all(pool)
    for table in ("execution_rollups", "step_rollups"):
        rows = query(pool, f"SELECT seconds, count(DISTINCT bucket)::int AS n FROM {table} GROUP BY 1")  # noqa: S608
        assert {row["seconds"]: row["n"] for row in rows} == {300: 1, 3600: 2, 86_400: 3}


def test_made_up_executions_are_counted_where_their_times_were_moved(pool: Pool, settings: Settings) -> None:
    """Also when an orchestrator had counted before, and again what they were before they were moved."""
    roll_all(pool)
    make(pool, settings, 3, 20, 9, datetime.now(UTC))
    roll_all(pool)
    rows = query(
        pool, "SELECT status, count(*)::int AS n FROM workflow_executions WHERE completed_at IS NOT NULL GROUP BY 1"
    )
    ends = Counter({row["status"]: row["n"] for row in rows})
    undone = query(pool, "SELECT detail ->> 'from' AS status FROM workflow_events WHERE detail ? 'completed_at'")
    ends.update(row["status"] for row in undone)
    assert executions(pool) == ends
    (row,) = query(
        pool,
        """
        SELECT (SELECT count(*) FROM workflow_steps WHERE status = 'completed' AND reused_from IS NULL)::int
             + (SELECT count(*) FROM workflow_step_results r JOIN workflow_executions e ON e.id = r.execution_id
                 WHERE r.status = 'completed' AND r.completed_at >= e.created_at)::int AS n""",
    )
    assert steps(pool)["completed"] == row["n"]
    assert len(query(pool, "SELECT DISTINCT bucket FROM execution_rollups WHERE seconds = 86400")) >= 3
    window = find_window(pool, "7d")
    assert total_of(read_stats(pool, window, "workflow")).endings == sum(ends.values())
    assert sum(one.endings for one in read_stats(pool, window, "time")) == sum(ends.values())


def test_an_orchestrator_counts(pool: Pool, settings: Settings) -> None:
    completed(pool, datetime.now(UTC) - timedelta(hours=1))
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    recovery = Recovery(pool, broker, settings)
    recovery.start()
    try:
        wait_until(lambda: executions(pool) == {"completed": 1}, 20, "the count")
    finally:
        recovery.stop()
        broker.close()


def test_a_window_is_exact_to_five_minutes(pool: Pool) -> None:
    """Whatever mix of buckets covers it: the rows that ended in it are as many."""
    now = datetime.now(UTC)
    for number in range(60):
        completed(pool, now - timedelta(minutes=9 + 211 * number), steps=1)
    roll_all(pool)
    for name in ("24h", "7d"):
        window = find_window(pool, name)
        assert window.until is not None
        (direct,) = query(
            pool,
            "SELECT count(*)::int AS n FROM workflow_executions WHERE completed_at >= %s AND completed_at < %s",
            window.since,
            window.until,
        )
        found: dict[str, list[Stat]] = {by: read_stats(pool, window, by) for by in ("workflow", "time", "tool", "step")}  # type: ignore[arg-type]
        assert {by: total_of(stats).endings for by, stats in found.items()} == dict.fromkeys(found, direct["n"])


def test_what_ended_in_a_bucket_is_found_by_index(pool: Pool) -> None:
    """However much ended before and after."""
    definition = (
        "INSERT INTO workflow_definitions (hash, definition, plan) VALUES (repeat('0', 64), '{}', '[]') RETURNING 1"
    )
    query(pool, definition)
    query(
        pool,
        """
        INSERT INTO workflow_executions (id, status, definition_hash, completed_at)
        SELECT time_ordered_uuid(), 'completed', repeat('0', 64), now() - n * interval '1 minute'
          FROM generate_series(1, 4000) n RETURNING 1""",
    )
    query(
        pool,
        """
        INSERT INTO workflow_steps (execution_id, step_name, step_index, status, completed_at, duration_ms)
        SELECT e.id, 's', i, 'completed', e.completed_at, 5
          FROM workflow_executions e, generate_series(0, 4) i RETURNING 1""",
    )
    with pool.connection() as connection:
        connection.execute("ANALYZE")
        for table in ("workflow_steps", "workflow_executions"):
            rows = connection.execute(
                f"EXPLAIN SELECT FROM {table} WHERE completed_at >= now() - interval '2 hours' "
                "AND completed_at < now() - interval '115 minutes'"
            ).fetchall()
            assert "Index" in str(rows), rows


def test_reading_a_window_reads_its_buckets_alone(pool: Pool) -> None:
    """However many others there are."""
    rows = "generate_series(1, 20000) n, LATERAL (SELECT bucket_of(3600, now() - n * interval '1 hour') AS bucket) b"
    for table, columns, values in (
        ("execution_rollups", "workflow, status, bin, endings, duration_ms", "'w', 'completed', 1, 1, 1"),
        (
            "step_rollups",
            "workflow, step, tool, outcome, bin, endings, duration_ms",
            "'w', 's', 't.t', 'failed', 1, 1, 1",
        ),
        ("error_rollups", "workflow, fingerprint, failures", "'w', 'f', 1"),
    ):
        picked = f"SELECT 3600, b.bucket, {values} FROM {rows} RETURNING 1"  # noqa: S608
        query(pool, f"INSERT INTO {table} (seconds, bucket, {columns}) {picked}")
    query(pool, "INSERT INTO rollup_progress (rolled_until) VALUES (bucket_of(300, now())) RETURNING 1")
    parameters = {"workflow": None, "limit": 50, "slowest": False, "kind": None, "by": "step", "bar": 3600}
    with pool.connection() as connection:
        connection.execute("ANALYZE")
        for name in ("execution_stats", "step_stats", "throughput", "error_stats"):
            given = parameters | _spans(find_window(pool, "7d"), bars=False)
            told = str(connection.execute(b"EXPLAIN " + statement(name), given).fetchall())
            assert "_rollups_pkey" in told, name
            assert not re.search(r"Seq Scan on \w+_rollups", told), name
