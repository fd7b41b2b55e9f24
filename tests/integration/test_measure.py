"""What must be zero: executions that nothing will move, found by rows and served as metrics."""

from __future__ import annotations

import re
import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from orchestrator.broker import StepBroker
from orchestrator.control import Controller, Wish
from orchestrator.measure import Fleet as FleetFigures
from orchestrator.metrics import VALUES
from orchestrator.submit import Request, Submitter
from persistence.embedded import Endpoints
from persistence.executions import create_execution
from persistence.pool import Pool, run
from persistence.settings import Settings
from persistence.statements import statement
from persistence.transitions import ReadyStep, charge_step, claim_step
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


@pytest.mark.parametrize(
    "name", ["stuck_executions", "outbox_age", "depth_by_state", "active_executions", "fleet_facts"]
)
def test_measuring_does_not_read_what_is_done(pool: Pool, crowd: None, name: str) -> None:
    """A hundred thousand completed executions cost nothing: none of their tables is scanned."""
    with pool.connection() as connection:
        rows = connection.execute(
            b"EXPLAIN (ANALYZE, BUFFERS, FORMAT TEXT) " + statement(name), {"limit": 1000, "lease": 30}
        ).fetchall()
    plan = "\n".join(row["QUERY PLAN"] for row in rows)
    print(plan)
    assert not re.search(r"Seq Scan on workflow_(executions|steps|events)", plan), plan
    assert sum(int(n) for n in re.findall(r"rows=(\d+)(?:\.\d+)? loops=1\)", plan)) < 20_000, plan


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def two_free_ports() -> int:
    """The first of two that follow each other."""
    while True:
        port = free_port()
        with closing(socket.socket()) as probe, suppress(OSError, OverflowError):
            probe.bind(("127.0.0.1", port + 1))
            return port


def scrape(port: int, path: str = "/metrics/fleet") -> dict[str, float]:
    """Every series and its value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


@pytest.fixture
def broker(settings: Settings) -> Iterator[StepBroker]:
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    yield broker
    broker.close()


@pytest.fixture
def figures(pool: Pool, broker: StepBroker) -> Callable[[], dict[str, float]]:
    """The fleet's figures, measured anew each time: `name{label values}` and its value."""
    fleet = FleetFigures(pool, broker, lease_seconds=2, kept=0.0)

    def measured() -> dict[str, float]:
        samples = [sample for family in fleet.collect() for sample in family.samples]
        return {f"{s.name}{{{','.join(s.labels.values())}}}": s.value for s in samples}

    return measured


def test_what_waits_is_told_by_state(pool: Pool, execution: UUID, figures: Callable[[], dict[str, float]]) -> None:
    """Ready for an hour; then delayed; then held, which is somebody's wish and makes no queue old."""
    change(pool, "UPDATE workflow_steps SET next_run_at = now() - interval '1 hour' WHERE step_index = 0")
    found = figures()
    assert (found["afu9_queue_depth{steps,ready}"], found["afu9_queue_depth{steps,delayed}"]) == (1, 0)
    assert 3600 <= found["afu9_queue_oldest_age_seconds{steps}"] < 3660
    change(pool, "INSERT INTO holds (kind, name, actor) VALUES ('tool', 'test.echo', 'me')")
    found = figures()
    assert (found["afu9_queue_depth{steps,ready}"], found["afu9_queue_depth{steps,held}"]) == (0, 1)
    assert found["afu9_queue_oldest_age_seconds{steps}"] == 0
    change(pool, "DELETE FROM holds")
    change(pool, "UPDATE workflow_steps SET next_run_at = now() + interval '1 hour' WHERE step_index = 0")
    found = figures()
    assert (found["afu9_queue_depth{steps,ready}"], found["afu9_queue_depth{steps,delayed}"]) == (0, 1)
    assert found["afu9_queue_oldest_age_seconds{steps}"] == 0


def test_what_must_be_zero_is_told(pool: Pool, claimed: UUID, figures: Callable[[], dict[str, float]]) -> None:
    """A worker that falls silent, a late dispatch, and an execution that nothing will move."""
    found = figures()
    assert found["afu9_executions_active{sequence,running}"] == 1
    assert (found["afu9_workers_alive{steps}"], found["afu9_fleet_slots{steps}"]) == (1, 1)
    zero = ("afu9_leases_expired{}", "afu9_invariant_stuck{}", "afu9_outbox_oldest_age_seconds{}")
    assert [found[name] for name in zero] == [0, 0, 0]
    change(pool, "UPDATE workers SET heartbeat_at = now() - interval '1 minute'")
    found = figures()
    assert (found["afu9_workers_alive{steps}"], found["afu9_leases_expired{}"]) == (0, 1)
    change(pool, "UPDATE workflow_steps SET status = 'pending', worker_id = NULL, next_run_at = now()")
    assert figures()["afu9_invariant_stuck{}"] == 1
    change(pool, "UPDATE workflow_steps SET dispatch_after = now() - interval '1 hour' WHERE step_index = 0")
    assert figures()["afu9_outbox_oldest_age_seconds{}"] >= 3600
    assert figures()["afu9_invariant_stuck{}"] == 0


def test_an_uncertain_step_counts_until_somebody_decides(
    pool: Pool, claimed: UUID, figures: Callable[[], dict[str, float]]
) -> None:
    """Also where the decision is that it failed."""
    change(pool, "UPDATE workflow_steps SET idempotent = false WHERE step_index = 0")
    step = run(pool, "get_execution_steps", {"execution_id": claimed})[0]
    charge_step(pool, step["id"], 1, kind="engine_error", error="?", retryable=True, delay_ms=0, params=None)
    assert figures()["afu9_uncertain_steps{}"] == 1
    Controller(pool, None).carry_out(claimed, Wish("decide", "me", step="step_0", decision="fail"))
    assert figures()["afu9_uncertain_steps{}"] == 0
    change(pool, "DELETE FROM workflow_events")
    assert figures()["afu9_uncertain_steps{}"] == 1


def test_many_workflows_share_one_label(pool: Pool, figures: Callable[[], dict[str, float]]) -> None:
    """Two hundred have one of their own, those with most executions."""
    text = """WITH made AS (
                INSERT INTO workflow_definitions (hash, definition, plan)
                SELECT lpad(n::text, 64, '0'), json_build_object('name', 'w' || n), '[]' FROM generate_series(1, 300) n
                RETURNING hash)
              INSERT INTO workflow_executions (status, definition_hash) SELECT 'running', hash FROM made"""
    change(pool, text)
    change(pool, "INSERT INTO workflow_executions (status, definition_hash) VALUES ('running', lpad('300', 64, '0'))")
    found = {name: value for name, value in figures().items() if name.startswith("afu9_executions_active")}
    assert len(found) == VALUES + 1
    assert found["afu9_executions_active{w300,running}"] == 2
    assert found["afu9_executions_active{other,running}"] == 100


def test_a_scrape_is_measured_once_in_five_seconds(pool: Pool, broker: StepBroker, execution: UUID) -> None:
    """Replicas and people who look cost the database nothing more."""
    fleet = FleetFigures(pool, broker, 2)
    first = [family.samples for family in fleet.collect()]
    change(pool, "UPDATE workflow_steps SET dispatch_after = NULL")
    assert [family.samples for family in fleet.collect()] == first


def test_what_does_not_answer_claims_nothing(
    dsn: str, servers: Endpoints, figures: Callable[[], dict[str, float]], settings: Settings
) -> None:
    """Without PostgreSQL its figures are gone, not zero, and come back; Redis has figures of its own."""
    assert figures()["afu9_invariant_stuck{}"] == 0
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(psycopg.conninfo.make_conninfo(dsn, dbname="postgres"), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        found = figures()
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert (found["afu9_fleet_scrape_ok{database}"], found["afu9_fleet_scrape_ok{redis}"]) == (0, 1)
    assert {key.partition("{")[0] for key in found} == {"afu9_fleet_scrape_ok", "afu9_broker_messages"}
    wait_until(lambda: figures()["afu9_fleet_scrape_ok{database}"] == 1, 30, "the return")
    assert figures()["afu9_invariant_stuck{}"] == 0


def test_a_running_fleet_is_never_stuck(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    """Asked all the time by this test, and once over HTTP from a real orchestrator."""
    (tmp_path / "logs").mkdir()
    with bare_server() as url:
        port = free_port()
        fleet = Fleet(
            environment(settings, mcp_config(tmp_path, bare={"url": url, "protocol": "jsonrpc"})), tmp_path / "logs"
        )
        try:
            fleet.environment["AFU9_METRICS_PORT"] = str(port)
            process = fleet.start("orchestrator")
            fleet.environment["AFU9_METRICS_PORT"] = "0"
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


@pytest.mark.parametrize("role", [("orchestrator",), ("worker",), ("api", "--port", "0")], ids=lambda role: role[0])
def test_a_port_that_is_taken_is_said_at_the_start(settings: Settings, tmp_path: Path, role: tuple[str, ...]) -> None:
    """One sentence, exit 1; without a port nothing is served."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        fleet = Fleet({**environment(settings), "AFU9_METRICS_PORT": str(port)}, tmp_path)
        try:
            assert fleet.start(*role).wait(30) == 1
        finally:
            fleet.end()
    words = fleet.log()
    assert f"metrics cannot be served on 127.0.0.1:{port} (Address already in use): set AFU9_METRICS_PORT" in words
    assert "Traceback" not in words
