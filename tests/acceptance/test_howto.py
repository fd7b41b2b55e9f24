"""docs/howto-start.md, block by block, against a running system."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from persistence.embedded.find import find_postgres
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.api_server import running_api
from tests.fleet import ROOT, Fleet, bare_server, environment, mcp_config, wait_until

TEXT = (ROOT / "docs" / "howto-start.md").read_text()
BLOCKS = re.findall(r"```(sh|python|js|sql)\n(.*?)```", TEXT, re.S)


@pytest.fixture
def fleet(settings: Settings, pool: Pool, tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "logs").mkdir()
    with bare_server() as url, running_api(settings) as api:
        config = mcp_config(tmp_path, bare={"url": url, "protocol": "jsonrpc"})
        started = Fleet(environment(settings, config) | {"AFU9_URL": api, "NO_PROXY": "127.0.0.1"}, tmp_path / "logs")
        try:
            for role in ("orchestrator", "worker"):
                started.start(role)
            wait_until(lambda: run(pool, "server_facts")[0]["workers_alive"] == 1, 20, "the worker's start")
            yield started
        finally:
            started.end()
            print(started.log())


def command(language: str, text: str, dsn: str) -> list[str]:
    match language:
        case "sh":
            return ["bash", "-euo", "pipefail", "-c", text]
        case "js":
            return [shutil.which("node") or pytest.skip("node is not installed"), "--input-type=module", "-e", text]
        case "sql":
            return [str(find_postgres() / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", text, dsn]
    return [sys.executable, "-c", text]


def test_every_block_starts_its_execution(fleet: Fleet, settings: Settings, pool: Pool) -> None:
    """Curl twice with one key, Python, Node, SQL, a message: five executions, each with its own number."""
    assert [language for language, _ in BLOCKS] == ["sh", "sh", "python", "js", "sql", "python"]
    for language, text in BLOCKS:
        done = subprocess.run(
            command(language, text, settings.database_dsn),
            env=fleet.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{language}: {done.stderr}"

    def numbers() -> list[int]:
        with pool.connection() as connection:
            rows = connection.execute("SELECT output FROM workflow_executions WHERE status = 'completed'").fetchall()
        return sorted(row["output"]["said"]["n"] for row in rows)

    wait_until(lambda: numbers() == [1, 2, 3, 4, 5], 20, "five executions")
