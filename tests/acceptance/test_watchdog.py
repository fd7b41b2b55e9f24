"""A worker that can no longer work ends with exit code 1, so that its supervisor starts it anew."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.fleet import ROOT, environment, wait_until


@contextmanager
def started(arguments: list[str], settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], env=environment(settings), cwd=ROOT, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("fault", "words"), [("hang", "Timeout (0:00:04)!"), ("deaf", "a consumer or worker thread died")]
)
def test_a_worker_that_hangs_or_hears_nothing_ends(settings: Settings, tmp_path: Path, fault: str, words: str) -> None:
    """An interpreter that is held for two leases, and a consumer thread that is gone."""
    log = tmp_path / "worker.log"
    with started(["tests.acceptance.failing_worker", fault], settings, log) as process:
        assert process.wait(30) == 1
    assert words in log.read_text()


def test_a_worker_whose_lease_cannot_be_written_ends(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    """While the database answers everybody else: its row is locked here."""
    log = tmp_path / "worker.log"
    with started(["control_center", "worker"], settings, log) as process:
        wait_until(lambda: run(pool, "server_facts")[0]["workers_alive"] == 1, 20, "the worker's start")
        with psycopg.connect(settings.database_dsn) as connection:
            connection.execute("SELECT FROM workers FOR UPDATE")
            assert process.wait(30) == 1
    assert "its lease cannot be renewed" in log.read_text()
