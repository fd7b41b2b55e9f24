"""Workers, an orchestrator and a server as real processes: what must hold when some of them die."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import redis
from dramatiq import Message

from orchestrator.broker import StepBroker
from orchestrator.definition import Workflow
from orchestrator.push import STEP_ACTOR, STEP_QUEUE
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.executions import get_execution, get_execution_steps
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.fleet import Fleet, bare_server, count, environment, mcp_config, wait_at_rest, wait_until
from tests.integration.test_measure import scrape, two_free_ports
from tests.workflows import assert_invariants_at_rest

EXECUTIONS = 200
STEPS = 5


@pytest.fixture
def fleet(settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    logs = tmp_path / "logs"
    logs.mkdir()
    with bare_server() as url:
        started = Fleet(environment(settings, mcp_config(tmp_path, bare={"url": url, "protocol": "jsonrpc"})), logs)
        try:
            yield started
        finally:
            started.end()
            print(started.log())


@pytest.fixture
def submitter(pool: Pool, settings: Settings) -> Iterator[Submitter]:
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    yield Submitter(pool, broker)
    broker.close()


def echoes(steps: int = STEPS, pause: float = 0.0) -> Workflow:
    tool, params = ("bare.sleep", {"seconds": pause}) if pause else ("bare.echo", {"value": "${input.n}"})
    return validate(
        {"steps": [{"name": f"s{n}", "tool": tool, "params": params, "assign": f"v{n}"} for n in range(steps)]}
    )


def submit(submitter: Submitter, workflow: Workflow, number: int = EXECUTIONS) -> list[UUID]:
    return [item.execution_id for item in submitter.submit(workflow, [Request(input={"n": n}) for n in range(number)])]


def assert_all_completed_once(pool: Pool, ids: list[UUID]) -> None:
    assert count(pool, "completed", ids) == len(ids)
    for execution_id in ids:
        assert_invariants_at_rest(pool, execution_id)
        assert [step["status"] for step in get_execution_steps(pool, execution_id)] == ["completed"] * STEPS
    assert run(pool, "stuck_executions", {"limit": 1}) == []


def test_a_killed_worker_loses_nothing(fleet: Fleet, submitter: Submitter, pool: Pool) -> None:
    """200 executions of 5 steps, two workers, kill -9 of one in the middle."""
    fleet.start("orchestrator")
    victim = fleet.start("worker")
    fleet.start("worker")
    wait_until(lambda: run(pool, "server_facts")[0]["workers_alive"] == 2, 20, "the start of two workers")
    ids = submit(submitter, echoes(pause=0.005))
    wait_until(lambda: count(pool, "completed", ids) > EXECUTIONS // 10, 60, "a tenth")
    os.kill(victim.pid, signal.SIGKILL)
    assert count(pool, "completed", ids) < EXECUTIONS
    wait_at_rest(pool, ids, 90)
    assert_all_completed_once(pool, ids)


def test_a_flushed_redis_loses_nothing(fleet: Fleet, submitter: Submitter, pool: Pool, valkey: redis.Redis) -> None:
    """FLUSHALL in the middle: whatever waited is pushed again."""
    fleet.start("orchestrator")
    fleet.start("worker")
    ids = submit(submitter, echoes(pause=0.005))
    wait_until(lambda: count(pool, "completed", ids) > EXECUTIONS // 10, 60, "a tenth")
    valkey.flushall()
    assert count(pool, "completed", ids) < EXECUTIONS
    wait_at_rest(pool, ids, 90)
    assert_all_completed_once(pool, ids)


def test_a_stopped_worker_hands_back_and_charges_nothing(fleet: Fleet, submitter: Submitter, pool: Pool) -> None:
    """SIGTERM during a long call: the step is released within the drain time, exit 0, and another worker runs it."""
    fleet.environment["AFU9_DRAIN_SECONDS"] = "1"
    fleet.start("orchestrator")
    first = fleet.start("worker")
    (execution_id,) = submit(submitter, echoes(1, pause=3), 1)
    wait_until(lambda: get_execution_steps(pool, execution_id)[0]["status"] == "running", 20, "the claim")
    first.terminate()
    assert first.wait(15) == 0
    (step,) = get_execution_steps(pool, execution_id)
    assert (step["status"], step["retry_count"], step["released_count"]) == ("pending", 0, 1)
    assert run(pool, "server_facts")[0]["workers_alive"] == 0
    fleet.start("worker")
    wait_at_rest(pool, [execution_id], 30)
    assert_invariants_at_rest(pool, execution_id)
    assert get_execution_steps(pool, execution_id)[0]["status"] == "completed"


def test_submissions_wait_for_a_worker_and_need_no_redis(fleet: Fleet, settings: Settings, pool: Pool) -> None:
    """Rows are enough: what was submitted without a push is dispatched when it is due."""
    (execution_id,) = submit(Submitter(pool, None), echoes(2), 1)
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_steps SET dispatch_after = now() WHERE dispatch_after IS NOT NULL")
    fleet.start("orchestrator")
    fleet.start("worker")
    wait_at_rest(pool, [execution_id], 30)
    assert count(pool, "completed", [execution_id]) == 1


def test_the_dramatiq_command_runs_the_same_worker(
    fleet: Fleet, submitter: Submitter, pool: Pool, tmp_path: Path
) -> None:
    """`dramatiq workers.main`, as the Procfile has it, but with two processes: each has a port for its metrics."""
    import subprocess
    import sys

    port = two_free_ports()
    command = [sys.executable, "-m", "dramatiq", "workers.main", "--processes", "2", "--threads", "2"]
    with (tmp_path / "dramatiq.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=fleet.environment | {"AFU9_METRICS_PORT": str(port)},
            stdout=log,
            stderr=log,
            cwd=Path(__file__).parents[2],
        )
    try:
        wait_until(lambda: run(pool, "server_facts")[0]["workers_alive"] == 2, 20, "the start of two processes")
        ids = submit(submitter, echoes(), 50)
        wait_at_rest(pool, ids, 30)
        assert_all_completed_once(pool, ids)
        scraped = [scrape(one, "/metrics") for one in (port, port + 1)]
        steps = [
            value for one in scraped for name, value in one.items() if name.startswith("afu9_steps_finished_total{")
        ]
        assert sum(steps) == 50 * STEPS
        process.terminate()
        assert process.wait(20) == 0, (tmp_path / "dramatiq.log").read_text()
    finally:
        process.kill()
        process.wait()


def test_a_message_that_names_no_step_goes_to_the_dead_letters(
    fleet: Fleet, submitter: Submitter, pool: Pool, settings: Settings, valkey: redis.Redis
) -> None:
    """And harms no other."""
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    for number, args in enumerate([("nonsense", 0), (), (None, None, None)]):
        message: Message[None] = Message(STEP_QUEUE, STEP_ACTOR, args, {}, {}, message_id=f"bad-{number}")
        broker.enqueue(message)
    ids = submit(submitter, echoes(), 3)
    fleet.start("orchestrator")
    fleet.start("worker")
    wait_at_rest(pool, ids, 30)
    assert_all_completed_once(pool, ids)
    dead = f"{settings.namespace}:{STEP_QUEUE}.XQ"
    wait_until(lambda: valkey.zcard(dead) == 3, 10, "the burial of three messages")
    assert sorted(valkey.zrange(dead, 0, -1)) == [b"bad-0", b"bad-1", b"bad-2"]
    broker.close()


@pytest.mark.parametrize(
    ("tool", "params", "kind", "words"),
    [
        ("bare.surrogate", {}, "invalid_response", "surrogate"),
        ("bare.nul", {}, "invalid_response", "NUL"),
        ("bare.invalidUtf8", {}, "invalid_response", "UTF-8"),
        ("bare.big", {"bytes": 50_000_000}, "response_too_large", ""),
        ("bare.nothing", {}, "tool_not_found", "nothing"),
        ("bare.echo", {"value": "${input.absent}"}, "invalid_params", "absent"),
    ],
)
def test_what_a_tool_may_answer_ends_the_step_clearly(
    fleet: Fleet, submitter: Submitter, pool: Pool, tool: str, params: dict[str, object], kind: str, words: str
) -> None:
    """A clear error on the step, the execution failed, and the worker goes on."""
    fleet.start("orchestrator")
    fleet.start("worker")
    bad = validate({"steps": [{"name": "bad", "tool": tool, "params": params}]})
    (execution_id,) = submit(submitter, bad, 1)
    wait_at_rest(pool, [execution_id], 30)
    (step,) = get_execution_steps(pool, execution_id)
    assert (step["status"], step["error_kind"]) == ("failed", kind), step["error"]
    assert words in step["error"]
    assert "Traceback" not in step["error"]
    (good,) = submit(submitter, echoes(1), 1)
    wait_at_rest(pool, [good], 30)
    execution = get_execution(pool, good)
    assert execution is not None
    assert execution["status"] == "completed"


def test_ten_orchestrators_are_harmless(fleet: Fleet, submitter: Submitter, pool: Pool, valkey: redis.Redis) -> None:
    """They share the work: a loss is charged once, and what two of them push is run once."""
    for _ in range(10):
        fleet.start("orchestrator")
    victim = fleet.start("worker")
    fleet.start("worker")
    ids = submit(submitter, echoes(pause=0.02), 100)
    wait_until(lambda: count(pool, "completed", ids) > 10, 60, "a tenth")
    victim.kill()
    valkey.flushall()
    wait_at_rest(pool, ids, 90)
    assert_all_completed_once(pool, ids)
    for execution_id in ids:
        events = run(pool, "get_execution_events", {"execution_id": execution_id})
        lost = [(event["step_id"], event["attempt"]) for event in events]
        assert len(set(lost)) == len(lost)


def test_wrong_clocks_change_nothing(fleet: Fleet, submitter: Submitter, pool: Pool) -> None:
    """Workers and orchestrators an hour apart: time is PostgreSQL's, and no worker is taken for dead or robbed."""
    for seconds in ("3600", "-3600"):
        for role in ("orchestrator", "worker"):
            fleet.start(role, program=("tests.acceptance.shifted_role", seconds))
    wait_until(lambda: run(pool, "server_facts")[0]["workers_alive"] == 2, 20, "the start of two workers")
    ids = submit(submitter, echoes(pause=0.05), 60)
    wait_at_rest(pool, ids, 60)
    assert_all_completed_once(pool, ids)
    for execution_id in ids:
        assert [step["attempt"] for step in get_execution_steps(pool, execution_id)] == [1] * STEPS
    assert "is dead" not in fleet.log()
