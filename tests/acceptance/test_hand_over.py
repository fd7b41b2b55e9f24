"""Workers that die or stop while they hold steps which they have claimed and not begun."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from orchestrator.broker import StepBroker
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.executions import get_execution_steps
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.fleet import Fleet, count, environment, running_fleet, wait_at_rest, wait_until
from tests.integration.test_transitions_guards import look
from tests.workflows import assert_invariants_at_rest

EXECUTIONS, STEPS = 12, 250


@pytest.fixture
def fleet(settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    """An orchestrator and one worker, whose tools only compute: so one thread does all, and the others' steps wait."""
    with running_fleet(environment(settings) | {"AFU9_THREADS": "8"}, tmp_path, "orchestrator") as fleet:
        yield fleet


@pytest.fixture
def ids(fleet: Fleet, settings: Settings, pool: Pool) -> list[UUID]:
    """Long sequences, which a worker has claimed several steps of."""
    steps = [
        {"name": f"s{n}", "tool": "builtin.echo", "params": {"n": "${input.n}"}, "assign": f"v{n}"}
        for n in range(STEPS)
    ]
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    requests = [Request(input={"n": number}) for number in range(EXECUTIONS)]
    submitted = Submitter(pool, broker).submit(validate({"steps": steps}), requests)
    broker.close()
    fleet.start("worker")
    wait_until(lambda: len(held(pool)) >= 4, 30, "steps in the worker's hands")
    return [one.execution_id for one in submitted]


def ids_of(pool: Pool, sql: str) -> set[UUID]:
    return {row["id"] for row in look(pool, sql)}


def held(pool: Pool) -> set[UUID]:
    return ids_of(pool, "SELECT id FROM workflow_steps WHERE status = 'running'")


def assert_all_completed_once(pool: Pool, ids: list[UUID]) -> None:
    wait_at_rest(pool, ids, 60)
    assert count(pool, "completed", ids) == len(ids)
    for execution_id in ids:
        assert_invariants_at_rest(pool, execution_id)
        assert len(get_execution_steps(pool, execution_id)) == STEPS
    assert run(pool, "stuck_executions", {"limit": 1}) == []


def test_a_killed_workers_claims_are_taken_over(fleet: Fleet, pool: Pool, ids: list[UUID]) -> None:
    """Those that it had begun and those that it had not; each is charged once, as lost."""
    (victim,) = fleet.processes("worker")
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    lost = held(pool)
    assert len(lost) > 1
    assert count(pool, "completed", ids) < len(ids)
    fleet.start("worker")
    assert_all_completed_once(pool, ids)
    charged = look(pool, "SELECT id, lost_count, retry_count FROM workflow_steps WHERE attempt > 1")
    assert {row["id"] for row in charged} == lost
    assert {(row["lost_count"], row["retry_count"]) for row in charged} == {(1, 1)}


def test_a_stopped_worker_hands_its_claims_back(fleet: Fleet, pool: Pool, ids: list[UUID]) -> None:
    """Uncharged: it exits with 0 and leaves nothing in its hands, and another one goes on at once."""
    (first,) = fleet.processes("worker")
    first.terminate()
    assert first.wait(20) == 0
    assert held(pool) == set()
    assert count(pool, "completed", ids) < len(ids)
    released = ids_of(pool, "SELECT id FROM workflow_steps WHERE released_count > 0")
    assert released
    fleet.start("worker")
    assert_all_completed_once(pool, ids)
    assert ids_of(pool, "SELECT id FROM workflow_steps WHERE retry_count > 0") == set()
    assert ids_of(pool, "SELECT id FROM workflow_steps WHERE attempt > 1") == released
