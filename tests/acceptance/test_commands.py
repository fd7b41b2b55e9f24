"""The command as people use it: `afu9` as a process, embedded servers of its own, exit codes, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from persistence.embedded import find_running
from persistence.settings import Settings
from tests.fleet import ROOT, Fleet, environment, wait_until

EXAMPLES = ROOT / "examples"


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short name: sockets live below /tmp, state in here."""
    with tempfile.TemporaryDirectory(prefix="afu9-cli-") as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs under another account and must reach its data
        yield Path(folder)


@pytest.fixture
def alone(home: Path) -> dict[str, str]:
    """No services configured: the command brings its own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "AFU9_STATE_DIR": str(home / "state"),
        "AFU9_MCP_CONFIG": str(EXAMPLES / "mcp.json"),
        "AFU9_DEMO_ROOT": str(home / "demo"),
    }


def afu9(
    environment: dict[str, str], *arguments: str, cwd: Path | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "control_center", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=cwd or ROOT, timeout=timeout
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines of running processes that name the folder."""
    return processes_with(str(folder))


def processes_with(text: str) -> list[str]:
    """Command lines of running processes that hold the text."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if text in line and stat[0] != "Z" and int(entry.name) != os.getpid():
            found.append(line)
    return found


def test_the_demo_makes_a_branch_and_a_record_of_every_step(alone: dict[str, str], home: Path) -> None:
    """examples/demo.py is `make demo`: exit 0, the branch in a real repository, the steps from the database."""
    command = [sys.executable, str(EXAMPLES / "demo.py")]
    demo = subprocess.run(command, env=alone, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    for name in ("fetch_issue", "create_branch", "create_pull_request", "list_branches", "note_time"):
        assert f"✓ {name}" in demo.stdout
    assert "fix/1" in demo.stdout.split("$ git branch")[1]
    assert "Next" in demo.stdout
    repository = home / "state" / "demo" / "acme" / "shop"
    git = ["git", "-c", "safe.directory=*", "-C", str(repository), "branch", "--list", "fix/1"]
    assert "fix/1" in subprocess.run(git, capture_output=True, text=True, check=True).stdout
    (row,) = json.loads(afu9(alone, "ls", "--json").stdout)["executions"]
    shown = json.loads(afu9(alone, "show", row["id"][:13], "--json").stdout)
    assert [step["status"] for step in shown["steps"]] == ["completed"] * 6
    assert shown["output"]["pull_request"]["head"] == "fix/1"
    assert processes_of(home) == []


def test_without_persistence_nothing_is_kept(alone: dict[str, str], home: Path) -> None:
    """No server is started and no state folder made; retries and conditions work as ever."""
    (home / "demo").mkdir()
    answer = afu9(alone, "run", str(EXAMPLES / "flaky.yaml"), "--no-persistence")
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert [(step["status"], step["retryCount"]) for step in result["steps"]] == [
        ("completed", 0),
        ("completed", 2),
        ("skipped", 0),
        ("completed", 0),
    ]
    assert (result["costUsd"], result["unpricedCalls"]) == (None, 3)
    assert [(step["costUsd"], step["unpricedCalls"]) for step in result["steps"]] == [(None, None)] * 4
    assert not (home / "state").exists()


def test_run_attaches_to_a_running_dev_and_ctrl_c_leaves_nothing(alone: dict[str, str], home: Path) -> None:
    """`afu9 dev` owns the servers and the roles; `afu9 run` in the same folder uses them."""
    (home / "demo").mkdir()
    (home / "logs").mkdir()
    fleet = Fleet(alone, home / "logs")
    try:
        dev = fleet.start("dev")
        wait_until(lambda: find_running(home / "state"), 60, "the start of afu9 dev")
        answer = afu9(alone, "run", str(EXAMPLES / "flaky.yaml"))
        assert answer.returncode == 0, answer.stderr + fleet.log()
        lines = [json.loads(line) for line in answer.stdout.splitlines()]
        assert lines[0]["stepsTotal"] == 4
        assert lines[-1]["status"] == "completed"
        assert afu9(alone, "doctor").returncode == 0
        address = next(line.split()[1] for line in fleet.log().splitlines() if line.startswith("api  "))
        wait_until(lambda: answers(address.replace("/api", "/readyz")), 20, "the API's start")
        dev.send_signal(signal.SIGINT)
        assert dev.wait(30) == 0
    finally:
        fleet.end()
    assert find_running(home / "state") is None
    assert processes_of(home) == []


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_a_killed_dev_leaves_nothing(alone: dict[str, str], home: Path) -> None:
    """kill -9: the kernel ends the servers, and the roles see that their parent is gone."""
    (home / "demo").mkdir()
    (home / "logs").mkdir()
    fleet = Fleet(alone | {"AFU9_DRAIN_SECONDS": "2"}, home / "logs")
    try:
        dev = fleet.start("dev")
        wait_until(lambda: len(processes_with(f"--parent {dev.pid}")) == 3, 60, "the start of three roles")
        dev.kill()
        wait_until(lambda: processes_with(f"--parent {dev.pid}") == [], 30, "the end of the roles")
        wait_until(lambda: processes_of(home) == [], 10, "the end of the servers")
    finally:
        fleet.end()


def test_a_run_without_a_second_chance_survives_ctrl_c(alone: dict[str, str], home: Path) -> None:
    """Interrupted: exit 130, no process left, and the execution is there to go on."""
    (home / "demo").mkdir()
    slow = home / "slow.yaml"
    slow.write_text("steps:\n- {name: wait, tool: playground.sleep, params: {seconds: 30}}\n")
    command = [sys.executable, "-m", "control_center", "run", str(slow)]
    process = subprocess.Popen(command, env=alone, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        while '"step": "wait"' not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, talk
    assert "Traceback" not in talk
    assert processes_of(home) == []
    (row,) = json.loads(afu9(alone, "ls", "--json").stdout)["executions"]
    assert row["status"] == "running"


@pytest.fixture
def configured(settings: Settings, home: Path) -> dict[str, str]:
    """Services as in production: by DATABASE_URL and REDIS_URL."""
    return environment(settings, EXAMPLES / "mcp.json") | {"AFU9_DEMO_ROOT": str(home)}


FAULTY: dict[str, Any] = {
    "name": "Bad Name",
    "surprise": 1,
    "steps": [
        {"name": "a", "tool": "nodot", "params": {}},
        {"name": "a", "tool": "nowhere.tool", "params": {"x": "${later.value}"}, "assign": "v"},
        {"name": "b", "tool": "time.now", "params": [], "assign": "v", "if": "${a ==}"},
        {"name": "c", "tool": "time.now", "params": {}, "assign": "later", "retry": {"maxAttempts": 99}},
    ],
}


@pytest.mark.parametrize("command", ["validate", "run"])
def test_every_fault_is_named_at_once_and_no_row_is_written(
    configured: dict[str, str], settings: Settings, home: Path, command: str
) -> None:
    """Exit 2, each fault with its JSON pointer."""
    definition = home / "bad.json"
    definition.write_text(json.dumps(FAULTY))
    answer = afu9(configured, command, str(definition))
    assert answer.returncode == 2
    pointers = (
        "/name",
        "/surprise",
        "/steps/0/tool",
        "/steps/1/name",
        "/steps/1/tool",
        "/steps/1/params/x",
        "/steps/2/params",
        "/steps/2/assign",
        "/steps/2/if",
        "/steps/3/retry/maxAttempts",
    )
    for pointer in pointers:
        assert f"{pointer}: " in answer.stderr, (pointer, answer.stderr)
    assert "Traceback" not in answer.stderr
    with psycopg.connect(settings.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM workflow_executions").fetchone() == (0,)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b"steps: []\n", "/steps"),
        (b"", ""),
        (b'{"steps": [' + b" " * 1_048_576 + b"]}", ""),
        (b"a: &a [*a]", ""),
    ],
)
def test_files_that_are_no_definition_are_refused(
    configured: dict[str, str], home: Path, content: bytes, words: str
) -> None:
    """Broken, empty, without steps, too large."""
    definition = home / "bad.yaml" if not content.startswith(b"{") else home / "bad.json"
    definition.write_bytes(content)
    answer = afu9(configured, "validate", str(definition))
    assert answer.returncode == 2, answer.stderr
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, 6, "PostgreSQL does not answer"),
        ({"DATABASE_URL": ""}, 2, "DATABASE_URL"),
        ({"AFU9_MCP_CONFIG": "/nowhere.json"}, 2, "/nowhere.json"),
        ({"AFU9_THREADS": "many"}, 2, "AFU9_THREADS"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    configured: dict[str, str], changes: dict[str, str], code: int, words: str
) -> None:
    """With the exit code for it, and no stack trace."""
    answer = afu9(configured | changes, "run", str(EXAMPLES / "flaky.yaml"))
    assert (answer.returncode, answer.stdout) == (code, ""), answer.stderr
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_database_without_our_schema_says_what_to_do(empty_dsn: str, configured: dict[str, str]) -> None:
    """`afu9 migrate --check` tells, `--print` shows, `afu9 migrate` does."""
    fresh = configured | {"DATABASE_URL": empty_dsn}
    answer = afu9(fresh, "run", str(EXAMPLES / "flaky.yaml"))
    assert (answer.returncode, "afu9 migrate" in answer.stderr) == (1, True)
    assert afu9(fresh, "migrate", "--check").returncode == 1
    assert "CREATE TABLE workflow_executions" in afu9(fresh, "migrate", "--print").stdout
    assert afu9(fresh, "migrate").returncode == 0
    assert afu9(fresh, "migrate", "--check").returncode == 0


@pytest.mark.parametrize("content", ['{"input": [1]}', '{"input": null}', '{"variables": 5}'])
def test_a_context_of_the_wrong_shape_is_refused(configured: dict[str, str], home: Path, content: str) -> None:
    """Before anything is called, with and without a database."""
    (home / "context.json").write_text(content)
    for more in ([], ["--no-persistence"]):
        answer = afu9(configured, "run", str(EXAMPLES / "flaky.yaml"), "--context", str(home / "context.json"), *more)
        assert answer.returncode == 2, answer.stderr
        assert "must be an object" in answer.stderr
        assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("changes", [{"DATABASE_URL": "postgres//u:S3CRETPW@h/db"}, {"REDIS_URL": "localhost:6379"}])
def test_an_address_that_is_none_is_refused_without_repeating_it(
    configured: dict[str, str], changes: dict[str, str]
) -> None:
    """It may hold a password."""
    answer = afu9(configured | changes, "ls")
    assert answer.returncode == 2, answer.stderr
    assert "S3CRETPW" not in answer.stderr + answer.stdout
    assert "Traceback" not in answer.stderr


def test_a_worker_that_cannot_start_ends(configured: dict[str, str]) -> None:
    """Instead of staying alive and swallowing messages."""
    for changes, code in (({"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, 6), ({"AFU9_SECRETS_DIR": "/nowhere"}, 2)):
        answer = afu9(configured | changes, "worker", timeout=30)
        assert answer.returncode == code, answer.stderr
        assert "the worker cannot start" in answer.stderr


def test_two_runs_in_one_folder_both_end(alone: dict[str, str], home: Path) -> None:
    """The owner's worker serves the other one, and the owner waits for it before it stops the servers."""
    (home / "demo").mkdir()
    slow = home / "slow.yaml"
    slow.write_text("steps:\n- {name: wait, tool: playground.sleep, params: {seconds: 4}}\n")
    command = [sys.executable, "-m", "control_center", "run"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, str(EXAMPLES / "flaky.yaml")], env=alone, cwd=ROOT, **pipes) as first:  # type: ignore[call-overload]
        wait_until(lambda: find_running(home / "state"), 30, "the start of the servers")
        with subprocess.Popen([*command, str(slow)], env=alone, cwd=ROOT, **pipes) as second:  # type: ignore[call-overload]
            _, talk = second.communicate(timeout=60)
            assert second.returncode == 0, talk
        _, talk = first.communicate(timeout=30)
        assert first.returncode == 0, talk
    assert processes_of(home) == []


def test_redis_away_does_not_stop_a_submission(configured: dict[str, str], settings: Settings, home: Path) -> None:
    """The rows are written and the run follows them; nobody rings, so the dispatcher would."""
    away = configured | {"REDIS_URL": "redis://127.0.0.1:1/0"}
    command = [sys.executable, "-m", "control_center", "run", str(EXAMPLES / "flaky.yaml")]
    process = subprocess.Popen(command, env=away, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["status"] == "running"
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert "the execution goes on" in talk
    with psycopg.connect(settings.database_url) as connection:
        assert connection.execute("SELECT status FROM workflow_executions").fetchall() == [("running",)]


def test_a_failed_execution_exits_with_7(configured: dict[str, str], settings: Settings, home: Path) -> None:
    """A tool that does not exist: the step says so, and so does show. The worker comes after the definition was checked: once
    it has kept what tools there are, such a definition is refused."""
    definition = home / "absent.yaml"
    definition.write_text("steps:\n- {name: one, tool: time.absent, params: {}}\n")
    logs = home / "logs"
    logs.mkdir()
    fleet = Fleet(configured, logs)
    command = [sys.executable, "-m", "control_center", "run", str(definition), "--json"]
    process = subprocess.Popen(
        command, env=configured, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        with psycopg.connect(settings.database_url, autocommit=True) as connection:
            wait_until(lambda: connection.execute("SELECT FROM workflow_executions").rowcount == 1, 30, "a submission")
        fleet.start("worker")
        said, talk = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
        fleet.end()
    assert process.returncode == 7, talk
    result = json.loads(said)
    assert result["status"] == "failed"
    assert "absent" in result["error"]
    shown = afu9(configured, "show", result["executionId"])
    assert "✕ one" in shown.stdout
    assert "absent" in shown.stdout
    assert afu9(configured, "show", "ffffffff").returncode == 3
    state = json.loads(afu9(configured, "show", result["executionId"], "--state").stdout)
    (step,) = state["steps"]
    assert set(step) == {"name", "status", "output", "duration", "retries"}
    assert (step["name"], step["status"], step["retries"]) == ("one", "failed", 0)


def test_a_control_without_services_brings_its_own(alone: dict[str, str], home: Path) -> None:
    """A run failed; its first step is skipped by hand, and the command's own workers bring it to its end."""
    (home / "flow.yaml").write_text(
        "steps:\n- {name: one, tool: builtin.fail, params: {kind: tool_error}, assign: one}\n"
        "- {name: two, tool: builtin.echo, params: {got: '${one}'}, assign: two}\n"
    )
    failed = afu9(alone, "run", str(home / "flow.yaml"), "--json")
    assert failed.returncode == 7, failed.stderr
    one = json.loads(failed.stdout)["executionId"]
    told = afu9(alone, "skip", one, "--step", "one", "--wait", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["output"]["two"] == {"got": None}
    assert afu9(alone, "pause", one).returncode == 4
    assert afu9(alone, "retry", one[:13], "--dry-run").returncode == 4
