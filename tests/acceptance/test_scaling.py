"""Workers come and go as a scaler wants them: a long call ends where it began, and the formula of KEDA scales out and in."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from orchestrator.broker import StepBroker
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.executions import get_execution_steps
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.chaos.ground import counting_server
from tests.deployed import DEPLOY
from tests.fleet import Fleet, count, environment, mcp_config, running_fleet, wait_at_rest, wait_until
from tests.integration.test_measure import free_port, scrape

KEDA = DEPLOY / "kubernetes" / "components" / "keda"
THREADS, DEFAULT_THREADS = 2, 32  # the thresholds are reckoned with the latter
MOST = 4


@pytest.fixture
def url() -> Iterator[str]:
    """Of a server that counts its calls."""
    with counting_server() as url:
        yield url


@pytest.fixture
def port() -> int:
    """Of the orchestrator's metrics."""
    return free_port()


@pytest.fixture
def fleet(settings: Settings, url: str, port: int, tmp_path: Path) -> Iterator[Fleet]:
    """An orchestrator with metrics. Workers have two slots, and the drain time that they have everywhere."""
    variables = environment(settings, mcp_config(tmp_path, tools={"url": url})) | {"AFU9_THREADS": str(THREADS)}
    del variables["AFU9_DRAIN_SECONDS"]
    with running_fleet(variables | {"AFU9_METRICS_PORT": str(port)}, tmp_path, "orchestrator") as fleet:
        wait_until(lambda: answers(port), 20, "the orchestrator's metrics")
        fleet.environment["AFU9_METRICS_PORT"] = "0"
        yield fleet


def answers(port: int) -> bool:
    try:
        return bool(scrape(port))
    except OSError:
        return False


def submit(settings: Settings, pool: Pool, steps: int, seconds: float, number: int) -> list[Any]:
    made = [{"name": f"s{n}", "tool": "tools.put", "params": {"seconds": seconds}} for n in range(steps)]
    with closing(StepBroker(settings.redis_url, namespace=settings.namespace)) as broker:
        submitted = Submitter(pool, broker).submit(validate({"steps": made}), [Request() for _ in range(number)])
    return [one.execution_id for one in submitted]


def calls_by_key(url: str) -> dict[str, int]:
    keys: dict[str, int] = httpx.get(url.replace("/mcp", "/counts")).json()["keys"]["put"]
    return keys


def alive(pool: Pool) -> int:
    return int(run(pool, "server_facts")[0]["workers_alive"])


def assert_each_called_once(pool: Pool, ids: list[Any], url: str) -> None:
    """Completed, uncharged, and the tool was called once for each step."""
    steps = [step for execution_id in ids for step in get_execution_steps(pool, execution_id)]
    assert {(step["status"], step["retry_count"], step["lost_count"]) for step in steps} == {("completed", 0, 0)}
    assert set(calls_by_key(url).values()) == {1}
    assert len(calls_by_key(url)) == len(steps)


@pytest.mark.slow
def test_a_stopping_worker_lets_a_long_call_end(fleet: Fleet, settings: Settings, pool: Pool, url: str) -> None:
    """SIGTERM at the beginning of a call of 10 s: it ends and is recorded, the worker is gone within 30 s."""
    worker = fleet.start("worker")
    wait_until(lambda: alive(pool) == 1, 20, "the worker's start")
    ids = submit(settings, pool, 1, 10, 1)
    wait_until(lambda: calls_by_key(url), 20, "the call")
    asked_at = time.monotonic()
    fleet.start("worker")
    worker.terminate()
    assert worker.wait(30) == 0
    assert 8 < time.monotonic() - asked_at < 30
    wait_at_rest(pool, ids, 10)
    assert_each_called_once(pool, ids, url)


class Scaler:
    """What KEDA and the autoscaler make of the ScaledObject and of what /metrics/fleet tells: 1 to 4 workers. Scaling in
    waits for a window as it does there, but one of half a second."""

    def __init__(self, fleet: Fleet, port: int):
        scaled = next(yaml.safe_load_all((KEDA / "scaledobject.yaml").read_text()))["spec"]
        depth, age = (float(trigger["metadata"]["threshold"]) for trigger in scaled["triggers"])
        assert [trigger["metricType"] for trigger in scaled["triggers"]] == ["AverageValue", "Value"]
        self._depth, self._age = depth * THREADS / DEFAULT_THREADS, age
        self._fleet, self._port = fleet, port
        self._wanted: list[tuple[float, int]] = []  # when, how many
        self.workers: list[subprocess.Popen[bytes]] = []

    def wanted(self) -> int:
        """AverageValue: the figure over the threshold. Value: as many times more workers as it is above the threshold."""
        figures = scrape(self._port)
        by_depth = math.ceil(figures['afu9_queue_depth{queue="steps",state="ready"}'] / self._depth)
        age = figures['afu9_queue_oldest_age_seconds{queue="steps"}']
        return min(max(by_depth, math.ceil(len(self.workers) * age / self._age), 1), MOST)

    def turn(self) -> int:
        """Out at once; in by one, if nothing within the window wanted more. Answers how many there are now."""
        now = time.monotonic()
        self._wanted = [*((at, number) for at, number in self._wanted if at > now - 0.5), (now, self.wanted())]
        highest = max(number for _, number in self._wanted)
        while len(self.workers) < highest:
            self.workers.append(self._fleet.start("worker"))
        if len(self.workers) > highest:
            self.workers.pop(0).terminate()
        return len(self.workers)


@pytest.mark.slow
def test_a_scaler_brings_workers_and_takes_them_away(
    fleet: Fleet, settings: Settings, pool: Pool, port: int, url: str
) -> None:
    """One worker, four under load, one again; every one that is taken away ends well, and everything is called once."""
    scaler = Scaler(fleet, port)
    wait_until(lambda: scaler.turn() == 1 and alive(pool) == 1, 20, "the first worker")
    ids = submit(settings, pool, 3, 0.2, 80)
    wait_until(lambda: scaler.turn() == MOST and alive(pool) == MOST, 30, "scaling out")
    assert count(pool, "completed", ids) < len(ids)
    wait_until(lambda: scaler.turn() == 1, 60, "scaling in")
    wait_at_rest(pool, ids, 30)
    assert [process.wait(30) for process in fleet.processes("worker") if process not in scaler.workers] == [0] * (
        MOST - 1
    )
    assert alive(pool) == 1
    assert_each_called_once(pool, ids, url)
