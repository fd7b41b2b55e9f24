"""Secrets stay where they are known, and the catalogue knows the tools: through real servers, workers and rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.acceptance.test_commands import afu9
from tests.fleet import ROOT, Fleet, environment, mcp_config, wait_until

SECRET = "s3cr3t-value-of-a-token"
CONFIGURED = "configured-password-123"
STDIO_SERVER = ROOT / "tests" / "integration" / "mcp_stdio_server.py"
PLAYGROUND = ROOT / "examples" / "servers" / "playground.py"


@pytest.fixture
def shell(settings: Settings, tmp_path: Path) -> dict[str, str]:
    """Two servers, one with a secret in its environment; a secret for steps."""
    config = mcp_config(
        tmp_path,
        dumper={"command": sys.executable, "args": [str(STDIO_SERVER)], "env": {"PASSWORD": "${DUMPER_PASSWORD}"}},
        playground={"command": sys.executable, "args": [str(PLAYGROUND)]},
    )
    return environment(settings, config) | {"DUMPER_PASSWORD": CONFIGURED, "AFU9_SECRET_TOKEN": SECRET}


@pytest.fixture
def fleet(shell: dict[str, str], tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "logs").mkdir()
    started = Fleet(shell, tmp_path / "logs")
    started.start("orchestrator")
    started.start("worker")
    try:
        yield started
    finally:
        started.end()


def everything_stored(dsn: str) -> str:
    """Every row of every table, as text."""
    with psycopg.connect(dsn) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        reads = [sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table)) for (table,) in tables]
        return "\n".join(str(row) for read in reads for row in connection.execute(read))


def test_no_secret_reaches_a_row_a_log_or_an_answer(
    fleet: Fleet, shell: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    """Neither the one a step refers to, nor those in a server's configuration, whatever a tool gives back."""
    definition = tmp_path / "flow.yaml"
    definition.write_text("""
steps:
- {name: dump, tool: dumper.environment, params: {}, assign: dumped}
- {name: use, tool: playground.echo, params: {value: {"$secret": TOKEN}}, assign: used}
- {name: typed, tool: playground.echo, params: {value: {password: typed-by-hand}}}
- {name: fail, tool: playground.fail, params: {times: 9, key: {"$secret": TOKEN}, message: {"$secret": TOKEN}}}
""")
    answer = afu9(shell, "run", str(definition), "--json")
    assert answer.returncode == 7, answer.stderr
    result = json.loads(answer.stdout)
    dumped, used, typed, failed = result["steps"]
    assert dumped["output"]["env"]["PASSWORD"] == "[redacted]"
    assert used["input"] == {"value": {"$secret": "TOKEN"}}
    assert "[redacted]" in json.dumps(used["output"])
    assert typed["input"] == {"value": {"password": "[redacted]"}}
    assert "[redacted]" in failed["error"]
    for place in (everything_stored(settings.database_url), fleet.log(), answer.stdout, answer.stderr):
        assert SECRET not in place
        assert CONFIGURED not in place


def test_an_unknown_secret_fails_the_step_by_its_name(fleet: Fleet, shell: dict[str, str], tmp_path: Path) -> None:
    """Nothing is called."""
    definition = tmp_path / "flow.yaml"
    definition.write_text('steps:\n- {name: one, tool: playground.echo, params: {value: {"$secret": NOBODY}}}\n')
    answer = afu9(shell, "run", str(definition), "--json")
    assert answer.returncode == 7
    (step,) = json.loads(answer.stdout)["steps"]
    assert step["errorKind"] == "secret_not_found"
    assert "NOBODY" in step["error"]


def test_a_worker_stores_the_catalogue_when_it_boots(fleet: Fleet, pool: Pool) -> None:
    """So that validation needs no server."""
    wait_until(lambda: len(run(pool, "list_tools", {"server": "playground"})) > 0, 20, "the first refresh")
    echo = next(row for row in run(pool, "list_tools", {"server": "playground"}) if row["tool"] == "echo")
    assert echo["input_schema"]["type"] == "object"
    assert echo["era"]


def test_definitions_are_checked_against_the_catalogue(
    shell: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    """`afu9 tools` fills and lists it, `validate` and `run` name what does not fit, and no row is written."""
    listed = afu9(shell, "tools", "playground", "--refresh")
    assert listed.returncode == 0, listed.stderr
    assert "playground.echo\t" in listed.stdout
    (one,) = json.loads(afu9(shell, "tools", "playground.sleep", "--json").stdout)["tools"]
    assert one["inputSchema"]["properties"]["seconds"]
    assert afu9(shell, "tools", "playground.nothing").returncode == 3
    definition = tmp_path / "flow.yaml"
    definition.write_text("""
steps:
- {name: one, tool: playground.ecko, params: {}}
- {name: two, tool: playground.sleep, params: {seconds: long}}
- {name: three, tool: playground.sleep, params: {seconds: "${input.s}"}}
""")
    for command in ("validate", "run"):
        answer = afu9(shell, command, str(definition))
        assert answer.returncode == 2, answer.stderr
        assert "/steps/0/tool: the server “playground” has no tool “ecko”" in answer.stderr
        assert "/steps/1/params/seconds: does not fit" in answer.stderr
        assert "/steps/2" not in answer.stderr
    with psycopg.connect(settings.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM workflow_executions").fetchone() == (0,)


def test_a_changed_tool_names_the_workflows_it_may_break(
    fleet: Fleet, shell: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    """Those whose stored definition calls it."""
    definition = tmp_path / "flow.yaml"
    definition.write_text("name: greeting\nsteps:\n- {name: one, tool: playground.echo, params: {value: 1}}\n")
    assert afu9(shell, "run", str(definition)).returncode == 0
    assert afu9(shell, "tools", "playground", "--refresh").returncode == 0
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("UPDATE mcp_tools SET hash = 'of an older schema' WHERE tool = 'echo'")
    answer = afu9(shell, "tools", "playground", "--refresh")
    assert "playground.echo was changed; called by greeting" in answer.stderr


def test_doctor_names_each_server(shell: dict[str, str], tmp_path: Path) -> None:
    """Reachable or not, with its protocol, tools and latency; exit 6 if one is away."""
    path = mcp_config(
        tmp_path,
        playground={"command": sys.executable, "args": [str(PLAYGROUND)]},
        away={"url": "http://127.0.0.1:1/mcp"},
        dies={"command": sys.executable, "args": ["-c", "import sys; sys.exit('cannot start: no licence')"]},
    )
    answer = afu9(shell | {"AFU9_MCP_CONFIG": str(path)}, "doctor", "--json")
    assert answer.returncode == 6
    checks = {check["name"]: check for check in json.loads(answer.stdout)["checks"]}
    assert checks["mcp playground"]["state"] == "ok"
    assert "protocol" in checks["mcp playground"]["detail"]
    assert checks["mcp away"]["state"] == checks["mcp dies"]["state"] == "fail"
    assert "no licence" in checks["mcp dies"]["detail"]
