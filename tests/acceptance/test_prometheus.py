"""A real Prometheus beside a running fleet: what it adds up equals the rows, to the last one."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.counters import COUNTED, told_by_counters, told_by_rows
from tests.fleet import ROOT, Fleet, environment, wait_until
from tests.integration.test_measure import free_port

WORKERS = 4
BATCHES, BATCH, STEPS = 2, 1000, 5
FLAKY = 40

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's package prometheus")


class Prometheus:
    """Asks one that runs."""

    def __init__(self, port: int):
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

    def close(self) -> None:
        self._client.close()

    def ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, query: str) -> list[dict[str, Any]]:
        answer = self._client.get("/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def recorded(self, *names: str) -> dict[str, float]:
        """The values of recording rules."""
        found = self.ask(f'{{__name__=~"{"|".join(names)}"}}')
        return {series["metric"]["__name__"]: float(series["value"][1]) for series in found}

    def counters(self) -> dict[str, float]:
        """The newest sample of every series that ever was, also of processes that are gone: each had its own address."""
        samples: Counter[tuple[str, frozenset[tuple[str, str]]]] = Counter()
        for name in COUNTED:
            for series in self.ask(f"last_over_time({name}[1h])"):
                samples[name, frozenset(series["metric"].items())] += float(series["value"][1])
        return told_by_counters(samples)


@contextmanager
def running_prometheus(folder: Path, instances: list[int], fleets: list[int]) -> Iterator[Prometheus]:
    """It scrapes these ports every second, and has our rules."""
    port = free_port()
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "deploy" / "prometheus" / name) for name in ("recording.yml", "alerts.yml")],
        "scrape_configs": [
            {"job_name": "afu9", "static_configs": [{"targets": [f"127.0.0.1:{one}" for one in instances]}]},
            {
                "job_name": "afu9-fleet",
                "metrics_path": "/metrics/fleet",
                "static_configs": [{"targets": [f"127.0.0.1:{one}" for one in fleets]}],
            },
        ],
    }
    (folder / "prometheus.json").write_text(json.dumps(configuration))  # YAML takes JSON
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.json'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        with closing(Prometheus(port)) as prometheus:
            wait_until(prometheus.ready, 60, "the start of Prometheus")
            yield prometheus
    finally:
        process.terminate()
        process.wait(20)


def definition(name: str, tool: str, params: dict[str, Any], steps: int, **more: Any) -> dict[str, Any]:
    """The second of its steps is skipped."""
    made = [{"name": f"s{n}", "tool": tool, "params": params, **more} for n in range(steps)]
    if steps > 1:
        made[1]["if"] = "false"
    return {"name": name, "steps": made}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_counters_equal_rows_over_a_restart_and_after_the_end(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    """10,000 steps on four workers, one of which is replaced in the middle; then everybody ends under load, and still
    nothing is missing. Started over HTTP, with steps that are skipped, that fail, and that are tried again."""
    (tmp_path / "logs").mkdir()
    fleet = Fleet(environment(settings) | {"AFU9_DRAIN_SECONDS": "60"}, tmp_path / "logs")
    ports = [free_port() for _ in range(WORKERS + 3)]
    api_port = free_port()

    def start(role: str, port: int, *arguments: str) -> subprocess.Popen[bytes]:
        fleet.environment["AFU9_METRICS_PORT"] = str(port)
        return fleet.start(role, *arguments)

    try:
        with running_prometheus(tmp_path, ports, ports[:2]) as prometheus:
            start("orchestrator", ports[0])
            start("api", ports[1], "--port", str(api_port))
            workers = [start("worker", port) for port in ports[2 : 2 + WORKERS]]
            wait_until(
                lambda: len(prometheus.ask('up{job="afu9"} == 1')) == WORKERS + 2, 60, "a first scrape of everybody"
            )
            submit(api_port)
            wait_until(lambda: completed(pool) > BATCHES * BATCH // 10, 120, "a tenth")
            workers[0].terminate()
            assert workers[0].wait(60) == 0
            assert completed(pool) < BATCHES * BATCH
            start("worker", ports[2 + WORKERS])
            wait_until(lambda: run(pool, "active_executions", {"limit": 1}) == [], 200, "the end of everything")
            rows = told_by_rows(pool)
            assert rows["step bulk s0 completed"] == BATCHES * BATCH
            assert rows["step bulk s1 skipped"] == BATCHES * BATCH
            assert rows["retries flaky s0"] == 2 * FLAKY
            assert rows["finished flaky failed"] == FLAKY
            wait_until(lambda: prometheus.counters() == rows, 30, f"{rows}; Prometheus has other counters")
            fleet_is = {
                "afu9:workers_alive:max": WORKERS,
                "afu9:fleet_slots:max": WORKERS * settings.threads,
                "afu9:invariant_stuck:max": 0,
            }
            assert len(prometheus.ask('up{job="afu9-fleet"} == 1')) == 2
            wait_until(lambda: prometheus.recorded(*fleet_is) == fleet_is, 30, "the fleet's figures")
            assert prometheus.ask('ALERTS{alertstate="firing"}') == []
            submit(api_port)
            wait_until(lambda: completed(pool) > BATCHES * BATCH * 11 // 10, 120, "a tenth of the second half")
            for role in ("api", "worker", "orchestrator"):
                for process in fleet.processes(role):
                    if process.poll() is None:
                        process.terminate()
            for role in ("api", "worker", "orchestrator"):
                for process in fleet.processes(role):
                    assert process.wait(90) == 0
            wait_until(lambda: prometheus.counters() == told_by_rows(pool), 10, "what was counted last")
    finally:
        fleet.end()
        print(fleet.log())


def submit(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/workflow", timeout=60) as api:
        bulk = definition("bulk", "builtin.echo", {"value": 1}, STEPS)
        fail = {"kind": "tool_error", "message": "no"}
        retry = {"maxAttempts": 3, "initialDelayMs": 100}
        flaky = definition("flaky", "builtin.fail", fail, 1, retry=retry)
        for wanted, number in [*[(bulk, BATCH)] * BATCHES, (flaky, FLAKY)]:
            answer = api.post("/executions/batch", json={"definition": wanted, "requests": [{"input": {}}] * number})
            assert answer.status_code == 202, answer.text


def completed(pool: Pool) -> int:
    with pool.connection() as connection:
        row = connection.execute("SELECT count(*) AS n FROM workflow_executions WHERE status = 'completed'").fetchone()
    assert row is not None
    return int(row["n"])
