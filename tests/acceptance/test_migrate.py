"""Real processes that migrate at once, while others work, and those that meet a schema they do not know."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.migrate import MIGRATIONS, migrations, pending
from persistence.pool import Pool, connect, run
from persistence.settings import Settings
from tests.fleet import ROOT, Fleet, bare_server, count, environment, mcp_config, wait_at_rest, wait_until
from tests.integration.test_schema import catalog

COMMANDS = {
    "orchestrator": ["-m", "control_center", "orchestrator"],
    "python -m orchestrator": ["-m", "orchestrator"],
    "run": ["-m", "control_center", "ls"],
    "worker": ["-m", "control_center", "worker"],
    "dramatiq": ["-m", "dramatiq", "workers.main", "--processes", "1", "--threads", "2"],
}
ROLES = list(COMMANDS)


def start(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment(settings),
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def outcome(process: subprocess.Popen[str], seconds: float = 30) -> tuple[int, str]:
    """Exit code and output; it is ended if it does not end."""
    try:
        text, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the session start() made: dramatiq has children
        text, _ = process.communicate()
        return 99, f"it did not end: {text}"
    return process.returncode, text


@pytest.mark.parametrize("number", [2, 5])
def test_processes_that_migrate_at_once_apply_it_once(
    settings: Settings, dsn: str, empty_dsn: str, number: int
) -> None:
    """One applies, the others find it done; all exit 0, and the schema is whole."""
    located = settings.model_copy(update={"database_url": empty_dsn})
    processes = [start(located, "-m", "control_center", "migrate") for _ in range(number)]
    ends = [outcome(process) for process in processes]
    assert [code for code, _ in ends] == [0] * number, ends
    assert sum("applied " in text for _, text in ends) == 1, ends
    assert all(f"the schema is current: version {migrations()[-1].version}" in text for _, text in ends)
    assert catalog(empty_dsn) == catalog(dsn)
    assert pending(empty_dsn) == []


@pytest.fixture
def next_version(tmp_path: Path) -> list[str]:
    """A command that applies one migration more: a new column and a function made anew, as a release would."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    number = migrations()[-1].version + 1
    (folder / f"{number:04}_next.sql").write_text(
        "ALTER TABLE workflow_steps ADD COLUMN later TEXT;\nALTER TABLE workflow_executions ADD COLUMN later TEXT;\n"
        "CREATE INDEX idx_steps_later ON workflow_steps (later) WHERE later IS NOT NULL;\n"
    )
    program = "import sys, pathlib\nimport persistence.migrate as m\nm.MIGRATIONS = pathlib.Path(sys.argv[1])\n"
    return ["-c", program + "print(m.migrate(sys.argv[2]))", str(folder)]


@pytest.fixture
def fleet(settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "logs").mkdir()
    with bare_server() as url:
        started = Fleet(
            environment(settings, mcp_config(tmp_path, bare={"url": url, "protocol": "jsonrpc"})), tmp_path / "logs"
        )
        try:
            yield started
        finally:
            started.end()
            print(started.log())


def test_a_migration_lands_while_workers_work(
    fleet: Fleet, settings: Settings, pool: Pool, next_version: list[str]
) -> None:
    """Its locks are got and given back; what runs goes on, before and after."""
    orchestrator, worker = fleet.start("orchestrator"), fleet.start("worker")
    steps = [{"name": f"s{n}", "tool": "bare.sleep", "params": {"seconds": 0.05}} for n in range(4)]
    workflow = validate({"steps": steps})

    def submit(number: int) -> list[object]:
        return [i.execution_id for i in Submitter(pool, None).submit(workflow, [Request() for _ in range(number)])]

    ids = submit(150)
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_steps SET dispatch_after = now() WHERE dispatch_after IS NOT NULL")
    wait_until(lambda: count(pool, "completed", ids) > 5, 30, "the first executions")
    code, text = outcome(start(settings, *next_version, settings.database_url))
    assert (code, "_next" in text) == (0, True), text
    assert count(pool, "completed", ids) < len(ids), "it landed too late to prove anything"
    ids += submit(5)
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_steps SET dispatch_after = now() WHERE dispatch_after IS NOT NULL")
    wait_at_rest(pool, ids, 60)
    assert count(pool, "completed", ids) == len(ids)
    assert run(pool, "stuck_executions", {"limit": 1}) == []
    assert (orchestrator.poll(), worker.poll()) == (None, None)


@pytest.mark.parametrize("role", ROLES)
def test_an_old_program_does_not_start_on_a_newer_database(settings: Settings, role: str) -> None:
    """One sentence with what to do, exit 1."""
    with connect(settings.database_url) as connection:
        connection.execute("INSERT INTO afu9_migrations (version, name, checksum) VALUES (9999, 'future', '')")
    code, text = outcome(start(settings, *COMMANDS[role]), 10)
    assert (code, "this code knows" in text, "update afu9" in text) == (1, True, True), text
    assert role == "dramatiq" or "Traceback" not in text  # Dramatiq prints how it fails to boot


@pytest.mark.parametrize("role", ROLES)
def test_a_new_program_does_not_start_on_an_older_database(settings: Settings, empty_dsn: str, role: str) -> None:
    """One sentence with what to do, exit 1."""
    code, text = outcome(start(settings.model_copy(update={"database_url": empty_dsn}), *COMMANDS[role]), 10)
    assert (code, "lacks schema changes" in text, "run `afu9 migrate`" in text) == (1, True, True), text
    assert role == "dramatiq" or "Traceback" not in text
