"""Controls of executions that real workers run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from orchestrator.broker import StepBroker
from orchestrator.control import Controller, Wish
from orchestrator.plan import definition_hash, plan, stored_definition, stored_plan
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.executions import get_execution_steps
from persistence.pool import Pool, run
from persistence.settings import Settings
from persistence.transitions import register_definition
from tests.drive import status_of
from tests.fleet import environment, mcp_config, running_fleet, wait_at_rest, wait_until
from tests.patient_server import patient_server

PARALLEL = 50
THREADS = 4


@pytest.fixture
def broker(settings: Settings) -> Iterator[StepBroker]:
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    yield broker
    broker.close()


def parallel(pool: Pool, broker: StepBroker) -> UUID:
    """An execution whose steps wait for nothing. The language has sequences only; the plan's columns carry any graph."""
    steps = [{"name": f"s{n}", "tool": "builtin.sleep", "params": {"seconds": 0.15}} for n in range(PARALLEL)]
    workflow = validate({"name": "parallel", "steps": steps})
    rows = [{**row, "successors": [], "needs": 0} for row in json.loads(stored_plan(plan(workflow)))]
    digest = definition_hash(workflow)
    register_definition(pool, digest, stored_definition(workflow), json.dumps(rows))
    return Submitter(pool, broker).submit_stored(digest, [Request()])[0].execution_id


def test_a_pause_of_50_parallel_steps_lets_at_most_those_running_end(
    settings: Settings, pool: Pool, broker: StepBroker, tmp_path: Path
) -> None:
    """And nothing is doubled after the resumption."""
    controller = Controller(pool, broker)
    with running_fleet(environment(settings) | {"AFU9_THREADS": str(THREADS)}, tmp_path, "orchestrator", "worker"):
        execution_id = parallel(pool, broker)

        def found() -> Counter[str]:
            return Counter(step["status"] for step in get_execution_steps(pool, execution_id))

        wait_until(lambda: found()["completed"] >= THREADS, 30, "some steps")
        controller.carry_out(execution_id, Wish("pause", actor="ada"))
        at_the_pause = found()
        assert at_the_pause["pending"] > 0
        wait_until(lambda: not found()["running"], 30, "the end of those that ran")
        ended = found()["completed"]
        assert ended <= at_the_pause["completed"] + at_the_pause["running"]
        run(pool, "redispatch_steps", {"limit": 1000})
        other = Submitter(pool, broker).submit(
            validate({"steps": [{"name": "a", "tool": "builtin.echo", "params": {}}]}), [Request()]
        )
        wait_at_rest(
            pool, [other[0].execution_id], 30
        )  # the workers are there, and still nothing of the paused one runs
        assert found()["completed"] == ended
        assert controller.carry_out(execution_id, Wish("resume", actor="ada")).status == "running"
        wait_until(lambda: status_of(pool, execution_id) == "completed", 60, "the rest")
    assert {step["attempt"] for step in get_execution_steps(pool, execution_id)} == {1}


@pytest.mark.parametrize("waits", ["a server", "builtin"])
def test_a_cancelled_call_of_a_minute_ends_at_once(
    settings: Settings, pool: Pool, broker: StepBroker, tmp_path: Path, waits: str
) -> None:
    """The worker is told by its lease within a second, and the server by its connection."""
    with patient_server() as (url, patient):
        tool, params = ("patient.echo", {}) if waits == "a server" else ("builtin.sleep", {"seconds": 60})
        steps = [{"name": "long", "tool": tool, "params": params}, {"name": "next", "tool": tool, "params": params}]
        variables = environment(settings, mcp_config(tmp_path, patient={"url": url, "timeout": 120}))
        with running_fleet(variables, tmp_path, "orchestrator", "worker"):
            submitted = Submitter(pool, broker).submit(validate({"steps": steps}), [Request()])
            execution_id = submitted[0].execution_id

            def first() -> str:
                status: str = get_execution_steps(pool, execution_id)[0]["status"]
                return status

            wait_until(lambda: first() == "running", 30, "the call")
            if waits == "a server":
                assert patient.called.wait(30)
            done = Controller(pool, broker).carry_out(execution_id, Wish("cancel", actor="ada", reason="enough"))
            assert done.status == "cancelled"
            wait_until(lambda: first() != "running", 10, "the end of the call")
            if waits == "a server":
                assert patient.left.wait(10)
            assert status_of(pool, execution_id) == "cancelled"
            assert get_execution_steps(pool, execution_id)[1]["attempt"] == 0
