"""A fleet without any configured server: its workers have `builtin`, and treat its calls like any other's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orchestrator.broker import StepBroker
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.executions import get_execution_steps
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.acceptance.test_commands import afu9
from tests.api_server import running_api
from tests.fleet import ROOT, Fleet, environment, running_fleet, wait_at_rest, wait_until
from tests.workflows import assert_invariants_at_rest


@pytest.fixture
def fleet(settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(environment(settings) | {"AFU9_DRAIN_SECONDS": "1"}, tmp_path, "orchestrator") as fleet:
        yield fleet


def test_the_example_runs_and_the_tools_are_listed(fleet: Fleet, settings: Settings, pool: Pool) -> None:
    """examples/hello.yaml through a worker; the catalogue, the API and the commands know the server."""
    fleet.start("worker")
    wait_until(lambda: len(run(pool, "list_tools", {"server": "builtin"})) == 4, 20, "the first refresh")
    answer = afu9(fleet.environment, "run", str(ROOT / "examples" / "hello.yaml"), "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["output"]["said"]["greeting"] == "Hello, world!"
    assert "builtin.sleep\tmay be repeated\tWaits" in afu9(fleet.environment, "tools", "builtin").stdout
    assert "mcp builtin" in afu9(fleet.environment, "doctor").stdout
    with running_api(settings) as url:
        health = httpx.get(f"{url}/api/mcp/health").json()
        tools = httpx.get(f"{url}/api/mcp/tools", params={"server": "builtin"}).json()["tools"]
    assert [(server["name"], server["healthy"], server["protocol"]) for server in health["servers"]] == [
        ("builtin", True, "in-process")
    ]
    assert [tool["tool"] for tool in tools] == ["echo", "fail", "sleep", "transform"]


def test_a_worker_that_stops_hands_a_sleep_back(fleet: Fleet, settings: Settings, pool: Pool) -> None:
    """Uncharged, within the drain time."""
    worker = fleet.start("worker")
    sleeping = validate({"steps": [{"name": "nap", "tool": "builtin.sleep", "params": {"seconds": 3}}]})
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    (submitted,) = Submitter(pool, broker).submit(sleeping, [Request()])
    broker.close()
    execution_id = submitted.execution_id
    wait_until(lambda: get_execution_steps(pool, execution_id)[0]["status"] == "running", 20, "the claim")
    worker.terminate()
    assert worker.wait(15) == 0
    (step,) = get_execution_steps(pool, execution_id)
    assert (step["status"], step["retry_count"], step["released_count"]) == ("pending", 0, 1)
    fleet.start("worker")
    wait_at_rest(pool, [execution_id], 30)
    assert_invariants_at_rest(pool, execution_id)
    assert get_execution_steps(pool, execution_id)[0]["output"] == {"slept": 3}
