"""PostgreSQL or Redis goes away under load and comes back: nothing is lost, nothing is charged, and people are told."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from orchestrator.broker import StepBroker
from orchestrator.definition import Workflow
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.executions import get_execution_steps
from persistence.pool import Pool, open_pool, run
from persistence.settings import Settings
from tests.fleet import ROOT, Fleet, bare_server, count, environment, mcp_config, wait_at_rest, wait_until
from tests.outage import OwnServers, own_servers


@pytest.fixture(scope="module")
def servers() -> Iterator[OwnServers]:
    with tempfile.TemporaryDirectory(prefix="afu9-outage-") as folder, own_servers(Path(folder)) as opened:
        yield opened


@pytest.fixture
def settings(servers: OwnServers, tmp_path: Path) -> Settings:
    return Settings(
        database_url=servers.endpoints.database_url,
        redis_url=servers.endpoints.redis_url,
        namespace=tmp_path.name,
        state_dir=tmp_path / "state",
        threads=4,
        heartbeat_seconds=0.5,
        lease_seconds=2,
        reap_seconds=0.5,
        dispatch_seconds=0.2,
        drain_seconds=10,
    )


@pytest.fixture
def pool(settings: Settings) -> Iterator[Pool]:
    with open_pool(settings.database_dsn) as opened:
        yield opened


@pytest.fixture
def submitter(pool: Pool, settings: Settings) -> Iterator[Submitter]:
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    yield Submitter(pool, broker)
    broker.close()


@pytest.fixture
def fleet(settings: Settings, pool: Pool, tmp_path: Path) -> Iterator[Fleet]:
    """An orchestrator and two workers that are ready."""
    logs = tmp_path / "logs"
    logs.mkdir()
    with bare_server() as url:
        variables = environment(settings, mcp_config(tmp_path, bare={"url": url, "protocol": "jsonrpc"}))
        started = Fleet(variables | {"AFU9_DIRECT_SECONDS": "1", "AFU9_LOG_LEVEL": "WARNING"}, logs)
        try:
            for role in ("orchestrator", "worker", "worker"):
                started.start(role)
            wait_until(lambda: run(pool, "server_facts")[0]["workers_alive"] == 2, 20, "the start of two workers")
            yield started
        finally:
            started.end()
            print(started.log())
            with pool.connection() as connection:
                connection.execute("DELETE FROM workers")


def sleeps(steps: int, seconds: float) -> Workflow:
    return validate(
        {
            "steps": [
                {"name": f"s{n}", "tool": "bare.sleep", "params": {"seconds": seconds}, "assign": f"v{n}"}
                for n in range(steps)
            ]
        }
    )


def submit(submitter: Submitter, workflow: Workflow, number: int) -> list[UUID]:
    return [item.execution_id for item in submitter.submit(workflow, [Request() for _ in range(number)])]


def assert_untroubled(pool: Pool, ids: list[UUID]) -> None:
    """All completed, each step by one call: a step may have been claimed by a worker that stopped and handed it back."""
    assert count(pool, "completed", ids) == len(ids)
    for execution_id in ids:
        for step in get_execution_steps(pool, execution_id):
            begun = step["attempt"] - step["released_count"]
            assert (step["status"], begun, step["retry_count"]) == ("completed", 1, 0)
    assert run(pool, "stuck_executions", {"limit": 1}) == []


def test_work_goes_on_without_redis_and_back_with_it(
    servers: OwnServers, fleet: Fleet, submitter: Submitter, pool: Pool
) -> None:
    """Submissions are rows, workers take steps from PostgreSQL, and afterwards steps are messages again."""
    before = submit(submitter, sleeps(5, 0.01), 100)
    with servers.down(servers.valkey):
        during = submit(submitter, sleeps(5, 0.01), 50)
        wait_at_rest(pool, before + during, 60)
    wait_until(lambda: fleet.log().count("Redis is back, steps come as messages again") == 2, 20, "the way back")
    after = submit(submitter, sleeps(5, 0.01), 20)
    wait_at_rest(pool, after, 30)
    assert_untroubled(pool, before + during + after)


def test_work_goes_on_while_redis_hangs(servers: OwnServers, fleet: Fleet, submitter: Submitter, pool: Pool) -> None:
    """A server that takes connections and never answers is away as well."""
    ids = submit(submitter, sleeps(5, 0.01), 100)
    with servers.stalled(servers.valkey):
        wait_at_rest(pool, ids, 60)
    assert_untroubled(pool, ids)


def test_results_wait_for_postgresql(servers: OwnServers, fleet: Fleet, submitter: Submitter, pool: Pool) -> None:
    """Away for longer than a lease, in the middle of calls: they are recorded when it is back, no step is charged, and
    nothing new begins meanwhile."""
    ids = submit(submitter, sleeps(3, 0.5), 20)
    wait_until(lambda: count(pool, "completed", ids) == 0 and calls_made(pool, ids) > 4, 20, "the first calls")
    with servers.down(servers.postgres):
        answer = subprocess.run(
            [sys.executable, "-m", "control_center", "ls"],
            env=fleet.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 6
        assert "PostgreSQL" in answer.stderr
        assert "Traceback" not in answer.stderr
        threading.Event().wait(4)  # the outage itself: two leases
    wait_at_rest(pool, ids, 60)
    assert_untroubled(pool, ids)


def calls_made(pool: Pool, ids: list[UUID]) -> int:
    return sum(step["attempt"] for execution_id in ids for step in get_execution_steps(pool, execution_id))


def test_a_restart_of_both_is_survived(servers: OwnServers, fleet: Fleet, submitter: Submitter, pool: Pool) -> None:
    """At the same time, with Valkey's memory lost."""
    ids = submit(submitter, sleeps(5, 0.02), 100)
    wait_until(lambda: count(pool, "completed", ids) > 5, 30, "the first executions")
    with servers.down(servers.valkey), servers.down(servers.postgres):
        pass
    wait_at_rest(pool, ids, 60)
    assert_untroubled(pool, ids)


@pytest.mark.slow
def test_a_rolling_restart_charges_nothing(fleet: Fleet, submitter: Submitter, pool: Pool) -> None:
    """Four workers are replaced one after the other under load: exit 0, nothing fails, and no step runs twice."""

    def alive(number: int) -> None:
        wait_until(lambda: run(pool, "server_facts")[0]["workers_alive"] == number, 30, f"{number} workers alive")

    for _ in range(2):
        fleet.start("worker")
    alive(4)
    ids: list[UUID] = []
    for process in fleet.processes("worker"):
        fleet.start("worker")
        alive(5)
        ids += (batch := submit(submitter, sleeps(5, 0.05), 120))
        wait_until(lambda batch=batch: count(pool, "completed", batch) > 12, 20, "a tenth of what was submitted")
        assert count(pool, "completed", batch) < len(batch)
        process.terminate()
        assert process.wait(20) == 0
    wait_at_rest(pool, ids, 60)
    assert_untroubled(pool, ids)


def test_a_stopping_worker_claims_nothing_more(fleet: Fleet, submitter: Submitter, pool: Pool) -> None:
    """From the signal on: what it had read goes back at once, and the others run it while its calls end."""
    ids = submit(submitter, sleeps(1, 1.5), 16)
    wait_until(lambda: calls_made(pool, ids) == 8, 20, "eight calls")
    first = fleet.processes("worker")[0]
    with pool.connection() as connection:
        asked_at = connection.execute("SELECT now() AS now").fetchone()["now"]  # type: ignore[index]
        first.terminate()
    assert first.wait(20) == 0
    wait_at_rest(pool, ids, 30)
    assert_untroubled(pool, ids)
    claims = [get_execution_steps(pool, execution_id)[0]["claimed_at"] for execution_id in ids]
    later = sorted((claimed - asked_at).total_seconds() for claimed in claims if claimed > asked_at)
    assert len(later) == 8
    assert later[3] < 2.5, later  # the other worker's four threads, as soon as they are free
