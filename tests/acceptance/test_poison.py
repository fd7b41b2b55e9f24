"""Poison: a step that kills its workers, and messages that nobody can read. Neither harms any other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from orchestrator.broker import StepBroker
from orchestrator.push import STEP_QUEUE
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.executions import get_execution_steps, require_execution
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.fleet import ROOT, Fleet, bare_server, count, environment, mcp_config, wait_at_rest, wait_until

DEADLY = {"command": sys.executable, "args": [str(ROOT / "tests" / "acceptance" / "deadly_server.py")]}


@pytest.fixture
def fleet(settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "logs").mkdir()
    with bare_server() as url:
        config = mcp_config(tmp_path, deadly=DEADLY, bare={"url": url, "protocol": "jsonrpc"})
        started = Fleet(environment(settings, config), tmp_path / "logs")
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


def test_a_step_that_kills_its_workers_fails(fleet: Fleet, submitter: Submitter, pool: Pool) -> None:
    """After three of them, as worker_lost; what they ran besides is run again and completes."""
    deadly = validate({"steps": [{"name": "poison", "tool": "deadly.poison", "params": {}}]})
    harmless = validate({"steps": [{"name": "nap", "tool": "bare.sleep", "params": {"seconds": 0.2}}]})
    fleet.start("orchestrator")
    victim = submitter.submit(deadly, [Request()])[0].execution_id
    others = [item.execution_id for item in submitter.submit(harmless, [Request() for _ in range(12)])]
    deaths = 0
    while require_execution(pool, victim)["status"] == "running":
        worker = fleet.start("worker")
        wait_until(
            lambda worker=worker: (  # type: ignore[misc]
                worker.poll() is not None or require_execution(pool, victim)["status"] != "running"
            ),
            40,
            "the death of a worker",
        )
        deaths += worker.poll() is not None
    assert deaths == 3
    (step,) = get_execution_steps(pool, victim)
    assert (step["status"], step["error_kind"], step["attempt"]) == ("failed", "worker_lost", 3)
    wait_at_rest(pool, others, 30)
    assert count(pool, "completed", others) == len(others)
    assert run(pool, "stuck_executions", {"limit": 1}) == []


def test_unreadable_messages_go_to_the_dead_letters(
    fleet: Fleet, submitter: Submitter, pool: Pool, settings: Settings, valkey: redis.Redis
) -> None:
    """In the middle of a queue that a running fleet works off."""
    queue = f"{settings.namespace}:{STEP_QUEUE}"
    echo = validate({"steps": [{"name": "echo", "tool": "bare.echo", "params": {"n": "${input.n}"}}]})
    bodies = [b"\xff\xfe", b"{", b"[]", b'{"queue_name": "steps"}', b"null", b"x" * 100_000]
    ids = []
    for number, body in enumerate(bodies):
        valkey.hset(f"{queue}.msgs", f"poison-{number}", body)
        valkey.rpush(queue, f"poison-{number}")
        ids += [item.execution_id for item in submitter.submit(echo, [Request(input={"n": n}) for n in range(10)])]
    fleet.start("worker")
    wait_at_rest(pool, ids, 30)
    assert count(pool, "completed", ids) == len(ids)
    wait_until(lambda: valkey.zcard(f"{queue}.XQ") == len(bodies), 10, "the burial of all of them")
    wait_until(lambda: valkey.hlen(f"{queue}.msgs") == 0, 10, "the end of all messages")
