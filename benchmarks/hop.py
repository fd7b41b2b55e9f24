"""What a hop costs: the time from one step of an execution to the next, with one idle worker process.

Prints the median and the 99th percentile per step over 200 sequential no-op steps, one execution at a time; the same per
step for an execution of 20 steps and for one of 2,000; and the peak memory of a worker process with 16 threads. The tool
is an MCP server over stdio that answers at once (benchmarks/noop_server.py), so the call is real. Servers are embedded,
with fsync and synchronous_commit on.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from uuid import UUID

from orchestrator.broker import StepBroker
from orchestrator.definition import Workflow
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.embedded import open_embedded
from persistence.executions import get_execution_steps
from persistence.migrate import migrate
from persistence.pool import Pool, open_pool, run
from persistence.settings import Settings

HERE = Path(__file__).parent
THREADS = 16


def sequence(count: int) -> Workflow:
    steps = [{"name": f"step_{index}", "tool": "noop.noop", "params": {}} for index in range(count)]
    return validate({"name": f"hop_{count}", "steps": steps})


def run_one(pool: Pool, submitter: Submitter, workflow: Workflow) -> tuple[list[float], float]:
    """Runs one execution; milliseconds between consecutive completions, and from submission to the first claim."""
    execution_id: UUID = submitter.submit(workflow, [Request()])[0].execution_id
    while run(pool, "get_execution", {"id": execution_id})[0]["status"] == "running":
        signal.sigtimedwait([], 0.05)
    steps = get_execution_steps(pool, execution_id)
    assert all(step["status"] == "completed" for step in steps), [step["error"] for step in steps if step["error"]]
    ends = [step["completed_at"] for step in steps]
    hops = [(later - earlier).total_seconds() * 1000 for earlier, later in pairwise(ends)]
    return hops, (steps[0]["claimed_at"] - steps[0]["created_at"]).total_seconds() * 1000


def report(title: str, hops: list[float]) -> dict[str, float]:
    ordered = sorted(hops)
    figures = {"median_ms": statistics.median(ordered), "p99_ms": ordered[int(len(ordered) * 0.99)]}
    print(f"{title:<34} median {figures['median_ms']:6.2f} ms   p99 {figures['p99_ms']:6.2f} ms   ({len(hops)} hops)")
    return figures


def measure(settings: Settings) -> dict[str, object]:
    pool = open_pool(settings.database_dsn)
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    submitter = Submitter(pool, broker)
    run_one(pool, submitter, sequence(50))  # warm-up: connections, plans, the server's start
    hops, first = run_one(pool, submitter, sequence(200))
    results: dict[str, object] = {"steps_200": report("200 steps", hops), "first_step_ms": first}
    short = [hop for _ in range(10) for hop in run_one(pool, submitter, sequence(20))[0]]
    results["steps_20"] = report("10 executions of 20 steps", short)
    results["steps_2000"] = report("an execution of 2,000 steps", run_one(pool, submitter, sequence(2000))[0])
    print(f"{'submission to first claim':<34} {first:13.2f} ms")
    broker.close()
    pool.close()
    return results


def reachable(folder: str) -> Path:
    """As root, PostgreSQL runs under another account and must reach its data."""
    Path(folder).chmod(0o711)
    return Path(folder)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="afu9-bench-") as folder, open_embedded(reachable(folder)) as endpoints:
        migrate(endpoints.database_url)
        config = Path(folder) / "mcp.json"
        noop = {"command": sys.executable, "args": [str(HERE / "noop_server.py")]}
        config.write_text(json.dumps({"mcpServers": {"noop": noop}}))
        environment = {
            "DATABASE_URL": endpoints.database_url,
            "REDIS_URL": endpoints.redis_url,
            "AFU9_MCP_CONFIG": str(config),
            "AFU9_LOG_LEVEL": "WARNING",
        }
        os.environ.update(environment)
        command = [sys.executable, "-m", "control_center", "worker", "--threads", str(THREADS)]
        worker = subprocess.Popen(command, env=os.environ | environment)
        try:
            results = measure(Settings.load())
        finally:
            worker.terminate()
            _, status, usage = os.wait4(worker.pid, 0)
        megabytes = usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024 * 1024)
        cpu = usage.ru_utime + usage.ru_stime
        print(f"{f'worker with {THREADS} threads':<34} {megabytes:10.1f} MB peak, {cpu:.1f} s CPU, exit {status}")
        results["worker_peak_mb"] = megabytes
        (HERE / "hop.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
