"""`afu9 archive` and `afu9 restore`: how fast, with how much memory, and what the hot path loses meanwhile.

    python benchmarks/archive.py [EXECUTIONS [RATE]]    1,000,000 by default, five steps each; --rate as by default

A worker runs sequences of `builtin.echo`. The archive is stopped and let go on (SIGSTOP) in turns, so that windows of the hot
path with and without it lie side by side; after forty pairs it goes on alone. Then everything is restored and compared with
what it was by a hash of every row's text, and archived once more with nothing beside it, at --rate 1. Servers are embedded,
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
import threading
import time
from pathlib import Path
from typing import Any

import api_scale
import psycopg

from orchestrator.archive import SHARE
from orchestrator.broker import StepBroker
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.archives.rows import TABLES
from persistence.embedded import Endpoints, open_embedded
from persistence.migrate import migrate
from persistence.pool import open_pool

RATE = float(sys.argv[2]) if len(sys.argv) > 2 else SHARE
WINDOW = 5.0  # seconds
PAIRS = 40  # of windows
STEPS = 50  # of a sequence of the hot path
HASHES = " UNION ALL ".join(
    f"SELECT '{table}', count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {table} t"  # noqa: S608  # ours
    for table in TABLES
)


def hashes(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(HASHES.encode()).fetchall()


def spawn(environment: dict[str, str], *arguments: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "control_center", *arguments], env=environment, text=True, **more)


def finish(process: subprocess.Popen[str]) -> tuple[float, dict[str, Any]]:
    """Its largest memory in MiB, and what it said: nothing if it was interrupted."""
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0 or not told, told
    return usage.ru_maxrss / 1024, json.loads(told or "{}")


class HotPath:
    """Sequences that a worker runs, never fewer than it can take."""

    def __init__(self, endpoints: Endpoints, environment: dict[str, str]):
        self._dsn = endpoints.database_url
        self._worker = spawn(environment, "worker", "--threads", "8", stderr=subprocess.DEVNULL)
        self._broker = StepBroker(endpoints.redis_url, namespace="bench")
        self._pool = open_pool(self._dsn)
        self._stop = threading.Event()
        self._feeder = threading.Thread(target=self._feed)
        self._feeder.start()

    def _feed(self) -> None:
        step = {"tool": "builtin.echo", "params": {"n": "${input.n}"}}
        flow = validate({"name": "hot", "steps": [{"name": f"s{n}", **step} for n in range(STEPS)]})
        submitter = Submitter(self._pool, self._broker)
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._stop.wait(0.2):
                row = connection.execute("SELECT count(*) FROM workflow_executions WHERE status = 'running'").fetchone()
                if row is not None and row[0] < 200:
                    submitter.submit(flow, [Request(input={"n": n}, triggered_by="hot") for n in range(100)])

    def rate(self, seconds: float) -> float:
        """Steps per second, in a window that begins now."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            (begin,) = connection.execute("SELECT clock_timestamp()").fetchone() or (None,)
            self._stop.wait(seconds)
            row = connection.execute(
                "SELECT count(*), extract(epoch FROM clock_timestamp() - %s) FROM workflow_steps WHERE completed_at >= %s",
                (begin, begin),
            ).fetchone()
        assert row is not None
        return float(row[0]) / float(row[1])

    def end(self) -> None:
        self._stop.set()
        self._feeder.join()
        self._worker.terminate()
        self._worker.wait()
        self._broker.close()
        self._pool.close()


def measure(hot: HotPath, archive: subprocess.Popen[str]) -> tuple[list[float], list[float], float]:
    """Steps/s with and without the archive, window by window until it ends or there are enough; how long it was let work."""
    with_it: list[float] = []
    without: list[float] = []
    worked = 0.0
    while not _ended(archive) and len(with_it) < PAIRS:
        archive.send_signal(signal.SIGSTOP)
        without.append(hot.rate(WINDOW))
        archive.send_signal(signal.SIGCONT)
        begin = time.perf_counter()
        rate = hot.rate(WINDOW)
        worked += time.perf_counter() - begin
        if _ended(archive):
            break
        with_it.append(rate)
    return with_it, without[: len(with_it)], worked


def _ended(process: subprocess.Popen[str]) -> bool:
    """Without reaping it: its memory is still to be asked for."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="afu9-bench-") as folder:
        Path(folder).chmod(0o711)
        with open_embedded(Path(folder) / "state") as endpoints:
            migrate(endpoints.database_url)
            api_scale.load(endpoints.database_url)
            with psycopg.connect(endpoints.database_url, autocommit=True) as connection:
                connection.execute("INSERT INTO rollup_progress (rolled_until) VALUES (now())")
                connection.execute("CHECKPOINT")
            before = hashes(endpoints.database_url)
            print(f"{before[0][1]:,} executions, {before[1][1]:,} steps")
            environment = os.environ | {
                "PYTHONPATH": str(Path(__file__).parents[1]),
                "DATABASE_URL": endpoints.database_url,
                "REDIS_URL": endpoints.redis_url,
                "AFU9_NAMESPACE": "bench",
            }
            figures = run(endpoints, environment, Path(folder) / "archive", before)
    print(json.dumps(figures, indent=1))


def run(
    endpoints: Endpoints, environment: dict[str, str], place: Path, before: list[tuple[Any, ...]]
) -> dict[str, Any]:
    quiet: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    command = ["archive", "--older-than", "0h", "--to", str(place), "--json"]
    hot = HotPath(endpoints, environment)
    try:
        hot.rate(WINDOW)  # warm
        process = spawn(environment, *command, "--rate", str(RATE), **quiet)
        with_it, without, worked = measure(hot, process)
    finally:
        hot.end()
    process.send_signal(signal.SIGINT)
    memory, done = finish(process)
    with psycopg.connect(endpoints.database_url, autocommit=True) as connection:
        (beside,) = connection.execute("SELECT count(*) FROM archived_executions").fetchone() or (0,)
        connection.execute("DELETE FROM workflow_executions WHERE triggered_by = 'hot'")
        begin = time.perf_counter()
        alone_memory, _ = finish(spawn(environment, *command, "--rate", "1", **quiet))
        alone_in = time.perf_counter() - begin
        runs = connection.execute("SELECT location, executions FROM workflow_archives ORDER BY created_at").fetchall()
    begin = time.perf_counter()
    restores = [finish(spawn(environment, "restore", location, "--json", **quiet)) for location, _ in runs]
    restored_in = time.perf_counter() - begin
    assert hashes(endpoints.database_url) == before, "not what it was"
    pairs = [1 - one / other for one, other in zip(with_it, without, strict=True)]
    total = sum(count for _, count in runs)
    restored = sum(told["executions"] for _, told in restores)
    return {
        "executions": total,
        "runs": len(runs),
        "interrupted": not done,
        "megabytes": round(sum(file.stat().st_size for file in place.rglob("*.gz")) / 1e6, 1),
        "rate": RATE,
        "archived_beside_the_hot_path_per_second": round(beside / worked),
        "archive_peak_mib": round(memory),
        "windows": len(pairs),
        "hot_steps_per_second_without": round(statistics.median(without)),
        "hot_steps_per_second_with": round(statistics.median(with_it)),
        "hot_loss_median_of_pairs": round(statistics.median(pairs), 3),
        "alone_at_rate_1_per_second": round((total - beside) / alone_in),
        "alone_peak_mib": round(alone_memory),
        "restored_equal": restored,
        "restored_per_second": round(restored / restored_in),
        "restore_peak_mib": round(max(memory for memory, _ in restores)),
    }


if __name__ == "__main__":
    main()
