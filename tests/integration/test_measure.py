"""What must be zero: executions that nothing will move, found by rows and served as metrics."""

from __future__ import annotations

import re
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from orchestrator.measure import Measure
from orchestrator.submit import Request, Submitter
from persistence.executions import create_execution
from persistence.pool import Pool, open_pool, run
from persistence.settings import Settings
from persistence.statements import statement
from persistence.transitions import ReadyStep, claim_step
from tests.fleet import Fleet, bare_server, count, environment, mcp_config, wait_until
from tests.workflows import sequence


def stuck(pool: Pool) -> list[UUID]:
    return [row["id"] for row in run(pool, "stuck_executions", {"limit": 10})]


def change(pool: Pool, text: str, **parameters: Any) -> None:
    with pool.connection() as connection:
        connection.execute(text.encode(), parameters or None)


@pytest.fixture
def execution(pool: Pool) -> UUID:
    """Two steps, the first of them due."""
    return Submitter(pool, None).submit(sequence(2), [Request(input={"n": 1})])[0].execution_id


@pytest.fixture
def claimed(pool: Pool, execution: UUID) -> UUID:
    """Its first step is in the hands of a worker that lives."""
    worker = uuid4()
    change(
        pool,
        "INSERT INTO workers (id, role, hostname, pid, threads) VALUES (%(id)s, 'worker', 'here', 1, 1)",
        id=worker,
    )
    with pool.connection() as connection:
        row = connection.execute("SELECT id FROM workflow_steps WHERE step_index = 0").fetchone()
    assert row is not None
    assert claim_step(pool, ReadyStep(row["id"], 0), worker, 30_000) is not None
    return execution


@pytest.mark.parametrize("after", ["0 s", "-1 day", "1 year"])
def test_a_waiting_step_is_not_stuck(pool: Pool, execution: UUID, after: str) -> None:
    """Due, overdue and due in a year."""
    text = """UPDATE workflow_steps
                 SET dispatch_after = now() + %(after)s::interval, next_run_at = now() + %(after)s::interval
               WHERE step_index = 0"""
    change(pool, text, after=after)
    assert stuck(pool) == []


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE workers SET heartbeat_at = now()",
        "UPDATE workers SET heartbeat_at = now() - interval '1 hour'",
        "DELETE FROM workers",
        "UPDATE workflow_steps SET deadline_at = now() - interval '10 seconds' WHERE step_index = 0",
    ],
    ids=["its worker lives", "its worker is silent", "its worker is gone", "it is past its deadline"],
)
def test_a_running_step_that_the_reaper_will_see_is_not_stuck(pool: Pool, claimed: UUID, text: str) -> None:
    """The reaper charges silent workers, missing ones, and late attempts."""
    change(pool, text)
    assert stuck(pool) == []


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE workflow_executions SET status = 'paused'",
        "UPDATE workflow_executions SET status = 'failed'",
        "UPDATE workflow_executions SET status = 'cancelled'",
        "UPDATE workflow_executions SET status = 'completed'",
    ],
)
def test_what_rests_is_not_stuck(pool: Pool, execution: UUID, text: str) -> None:
    """Terminal or paused, whatever its steps say."""
    change(pool, "UPDATE workflow_steps SET dispatch_after = NULL")
    assert stuck(pool) == [execution]
    change(pool, text)
    assert stuck(pool) == []


def test_what_a_caller_records_itself_is_not_stuck(pool: Pool) -> None:
    """create_execution: nobody else will move it, and nobody should."""
    create_execution(pool, None, {}, {})
    assert stuck(pool) == []


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE workflow_steps SET dispatch_after = NULL",
        "UPDATE workflow_steps SET needs_left = 1",
        "UPDATE workflow_steps SET next_run_at = NULL",
        "UPDATE workflow_steps SET status = 'completed', dispatch_after = NULL",
        "UPDATE workflow_steps SET status = 'completed' WHERE step_index = 0",
        "UPDATE workflow_executions SET status = 'pending'",
        "DELETE FROM workflow_steps",
    ],
)
def test_a_broken_row_is_found(pool: Pool, execution: UUID, text: str) -> None:
    """No message that could be taken, no timer, nobody who works on it."""
    change(pool, text)
    assert stuck(pool) == [execution]


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE workflow_steps SET worker_id = NULL WHERE step_index = 0",
        "UPDATE workflow_steps SET deadline_at = NULL WHERE step_index = 0",
        "UPDATE workflow_steps SET deadline_at = now() - interval '1 hour' WHERE step_index = 0",
    ],
)
def test_a_running_step_that_nobody_will_see_is_found(pool: Pool, claimed: UUID, text: str) -> None:
    """The reaper looks for a worker and a deadline; an hour after one, it does not work."""
    change(pool, text)
    assert stuck(pool) == [claimed]


@pytest.fixture
def crowd(pool: Pool) -> None:
    """100,000 completed executions of two steps, and 1,000 that run."""
    change(
        pool,
        """
        ALTER TABLE workflow_steps DISABLE TRIGGER ALL;
        INSERT INTO workflow_definitions (hash, definition, plan) VALUES (repeat('0', 64), '{}', '[]');
        INSERT INTO workflow_executions (id, status, definition_hash)
        SELECT time_ordered_uuid(), CASE WHEN n % 101 = 0 THEN 'running' ELSE 'completed' END, repeat('0', 64)
          FROM generate_series(1, 101000) n;
        INSERT INTO workflow_steps (execution_id, step_name, step_index, status, dispatch_after, next_run_at)
        SELECT e.id, 's', i, CASE WHEN e.status = 'running' AND i = 1 THEN 'pending' ELSE 'completed' END,
               CASE WHEN e.status = 'running' AND i = 1 THEN now() END, now()
          FROM workflow_executions e, generate_series(0, 1) i;
        ANALYZE workflow_executions; ANALYZE workflow_steps
        """,
    )


@pytest.mark.parametrize("name", ["stuck_executions", "outbox_age"])
def test_measuring_does_not_read_what_is_done(pool: Pool, crowd: None, name: str) -> None:
    """A hundred thousand completed executions cost nothing: no table is scanned."""
    with pool.connection() as connection:
        rows = connection.execute(
            b"EXPLAIN (ANALYZE, BUFFERS, FORMAT TEXT) " + statement(name), {"limit": 1000}
        ).fetchall()
    plan = "\n".join(row["QUERY PLAN"] for row in rows)
    print(plan)
    assert "Seq Scan" not in plan, plan
    assert sum(int(n) for n in re.findall(r"rows=(\d+)(?:\.\d+)? loops=1\)", plan)) < 20_000, plan


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines if not line.startswith("#"))}


@pytest.fixture
def served(settings: Settings) -> Iterator[int]:
    """The metrics, measured every 50 ms; their port."""
    port = free_port()
    with open_pool(settings.database_dsn) as pool:
        measure = Measure(pool, settings.model_copy(update={"metrics_port": port}), every=0.05)
        measure.start()
        yield port
        measure.stop()


def test_a_scrape_tells_what_was_measured(pool: Pool, served: int, execution: UUID) -> None:
    """Three figures without labels; a broken row shows, and so does a late one."""
    wait_until(lambda: len(scrape(served)) == 3, 5, "the first measurement")
    assert scrape(served)["afu9_invariant_stuck"] == 0
    change(pool, "UPDATE workflow_steps SET dispatch_after = now() - interval '1 hour' WHERE step_index = 0")
    wait_until(lambda: scrape(served)["afu9_outbox_oldest_age_seconds"] >= 3600, 5, "an age of an hour")
    change(pool, "UPDATE workflow_steps SET dispatch_after = NULL")
    wait_until(lambda: scrape(served)["afu9_invariant_stuck"] == 1, 5, "a stuck execution")
    assert set(scrape(served)) == {
        "afu9_invariant_stuck",
        "afu9_outbox_oldest_age_seconds",
        "afu9_measured_at_seconds",
    }


def test_before_the_first_measurement_nothing_is_claimed(pool: Pool, settings: Settings) -> None:
    """A zero that nobody measured would hide what it is there for."""
    assert list(Measure(pool, settings).collect()) == []


def test_figures_go_stale_visibly_while_postgresql_is_away(
    dsn: str, served: int, caplog: pytest.LogCaptureFixture
) -> None:
    """They stay, their time stands still, and both move again afterwards."""
    wait_until(lambda: len(scrape(served)) == 3, 5, "the first measurement")
    good = scrape(served)
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    away = psycopg.conninfo.make_conninfo(dsn, dbname="postgres")
    with psycopg.connect(away, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        wait_until(lambda: "metrics stay as they were" in caplog.text, 20, "the failure of a measurement")
        before = scrape(served)
        assert before["afu9_measured_at_seconds"] >= good["afu9_measured_at_seconds"]
        caplog.clear()
        wait_until(lambda: "metrics stay as they were" in caplog.text, 20, "another failure")
        assert scrape(served) == before
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    wait_until(
        lambda: scrape(served)["afu9_measured_at_seconds"] > before["afu9_measured_at_seconds"], 30, "the return"
    )


def test_a_running_fleet_is_never_stuck(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    """Asked all the time by this test, and once over HTTP from a real orchestrator."""
    (tmp_path / "logs").mkdir()
    with bare_server() as url:
        port = free_port()
        fleet = Fleet(
            environment(settings, mcp_config(tmp_path, bare={"url": url, "protocol": "jsonrpc"})), tmp_path / "logs"
        )
        fleet.environment["AFU9_METRICS_PORT"] = str(port)
        try:
            process = fleet.start("orchestrator")
            fleet.start("worker")
            workflow = sequence(4, tool="bare.echo")
            ids = [
                item.execution_id
                for item in Submitter(pool, None).submit(workflow, [Request(input={"n": n}) for n in range(50)])
            ]
            change(pool, "UPDATE workflow_steps SET dispatch_after = now() WHERE dispatch_after IS NOT NULL")
            seen: list[UUID] = []

            def rest() -> bool:
                seen.extend(stuck(pool))
                return count(pool, "completed", ids) == len(ids)

            wait_until(rest, 60, "50 executions")
            assert seen == []
            assert scrape(port)["afu9_invariant_stuck"] == 0
            process.terminate()
            assert process.wait(10) == 0
        finally:
            fleet.end()
            print(fleet.log())


def test_a_port_that_is_taken_is_said_at_the_start(settings: Settings, tmp_path: Path) -> None:
    """One sentence, exit 1; without a port nothing is served."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        fleet = Fleet({**environment(settings), "AFU9_METRICS_PORT": str(port)}, tmp_path)
        try:
            assert fleet.start("orchestrator").wait(20) == 1
        finally:
            fleet.end()
    words = fleet.log()
    assert f"metrics cannot be served on 127.0.0.1:{port} (Address already in use): set AFU9_METRICS_PORT" in words
    assert "Traceback" not in words
