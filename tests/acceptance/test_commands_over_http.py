"""The commands against an API: nothing but its address is known, and everything is as it is with the database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import UUID

import pytest

from control_center.cli import invoke
from control_center.keys import Trust
from persistence.executions import update_execution_status
from persistence.pool import Pool
from persistence.settings import Settings
from tests.acceptance.test_commands import FAULTY, afu9
from tests.api_server import running_api
from tests.fleet import ROOT, Fleet, bare_server, environment, mcp_config, wait_until
from tests.integration.test_api import make_key
from tests.unsteady import Link, http, scripted, serving

FLOW = """
name: unsteady
steps:
- {name: one, tool: bare.echo, params: {n: "${input.n}"}, assign: one}
- name: two
  tool: bare.fail
  params: {key: "${input.key}", times: 2, message: not yet}
  retry: {maxAttempts: 3, backoff: fixed, initialDelayMs: 100}
  assign: two
- {name: three, tool: bare.echo, params: {}, if: "${input.n} > 9007199254740993", assign: three}
"""
ABSENT = "steps:\n- {name: one, tool: bare.absent, params: {}}\n"


@pytest.fixture
def near(settings: Settings, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody who reaches the database."""
    with bare_server() as url:
        yield environment(settings, mcp_config(tmp_path, bare={"url": url, "protocol": "jsonrpc"}))


def far(url: str, folder: Path, **more: str) -> dict[str, str]:
    """The environment of somebody who knows the API's address only."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT), "AFU9_STATE_DIR": str(folder / "no state"), "AFU9_URL": url} | more


@pytest.fixture
def fleet(near: dict[str, str], tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "logs").mkdir()
    started = Fleet(near, tmp_path / "logs")
    yield started
    started.end()
    print(started.log())


def file(folder: Path, content: str) -> str:
    path = folder / "flow.yaml"
    path.write_text(content)
    return str(path)


def said(
    way: Mapping[str, str], command: list[str], patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process, which is quicker than one of its own."""
    for name in ("AFU9_URL", "DATABASE_URL", "REDIS_URL", "AFU9_STATE_DIR"):
        patch.setenv(name, way.get(name, ""))
    capsys.readouterr()
    code = invoke(command)
    return code, *capsys.readouterr()


def test_all_is_as_with_the_database(
    settings: Settings,
    near: dict[str, str],
    fleet: Fleet,
    pool: Pool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two runs each way; then every command says the same of them, byte for byte, with the same exit code."""
    fleet.start("worker")
    fleet.start("orchestrator")
    with running_api(settings) as url:
        ways: list[Mapping[str, str]] = [near, far(url, tmp_path)]
        results = []
        for number, way in enumerate(ways):
            inputs = ["-i", f"n={2**53 + 1}", "-i", f"key=k{number}", "--title", "é"]
            ended = afu9(dict(way), "run", file(tmp_path, FLOW), *inputs)
            assert ended.returncode == 0, ended.stderr
            failed = afu9(dict(way), "run", file(tmp_path, ABSENT), "--json")
            assert failed.returncode == 7, failed.stderr
            results += [ended.stdout.splitlines(), failed.stdout.splitlines()]
        for mine, theirs in ((results[0], results[2]), (results[1], results[3])):
            for line in (0, -1):
                assert list(json.loads(mine[line])) == list(json.loads(theirs[line]))
        assert json.loads(results[2][-1])["input"] == {"n": 9007199254740993, "key": "k1"}
        ids = [json.loads(lines[-1])["executionId"] for lines in results]
        update_execution_status(pool, UUID(ids[3]), "cancelled", error="enough\nof it")
        commands = [["ls"], ["ls", "--json"], ["ls", "-q", "--limit", "2"], ["ls", "--status", "failed"]]
        for one in ids:
            commands += [["show", one], ["show", one, "--json"], ["show", one, "--state"], ["watch", one]]
            commands += [["logs", one], ["logs", one, "-f", "--json"], ["watch", one, "-q"]]
        commands += [["show", ids[0][:24]], ["show", "ffffffff"], ["show", "zebra"], ["show", ids[0][:2]], ["show", ""]]
        codes = []
        for command in commands:
            here, there = (said(way, command, monkeypatch, capsys) for way in ways)
            assert there == here
            codes.append(here[0])
        watched = [code for code, command in zip(codes, commands, strict=True) if command[0] == "watch"]
        assert watched == [0, 0, 7, 7, 0, 0, 8, 8]
        assert codes[-4:] == [3, 2, 2, 2]


def test_faults_of_a_definition_are_named_as_ever(
    settings: Settings, near: dict[str, str], pool: Pool, tmp_path: Path
) -> None:
    """With their places and hints. The API does not know which servers its workers have; all else is the same."""
    path = file(tmp_path, json.dumps(FAULTY))
    with running_api(settings) as url:
        here, there = afu9(near, "run", path), afu9(far(url, tmp_path), "run", path)
    assert (there.returncode, there.stdout) == (here.returncode, here.stdout) == (2, "")
    told = [line for line in here.stderr.splitlines()[1:] if "server" not in line]
    assert len(told) >= 8
    assert set(told) <= set(there.stderr.splitlines())
    with pool.connection() as connection:
        assert connection.execute("SELECT 1 FROM workflow_executions").fetchall() == []


def test_a_log_is_told_as_it_happens(settings: Settings, fleet: Fleet, tmp_path: Path) -> None:
    """Nobody works at first; the run says so, goes on without us, and its log is followed to the end."""
    with running_api(settings) as url:
        command = [sys.executable, "-m", "control_center"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        there = far(url, tmp_path)
        running = [*command, "run", file(tmp_path, FLOW), "-i", "n=1", "-i", "key=k"]
        with subprocess.Popen(running, env=there, cwd=ROOT, **pipes) as run_process:  # type: ignore[call-overload]
            assert "no worker is alive" in run_process.stderr.readline()
            run_process.send_signal(signal.SIGINT)
            out, talk = run_process.communicate(timeout=30)
            assert run_process.returncode == 130
            assert "the execution goes on without us" in talk
            assert "Traceback" not in talk
        execution_id = json.loads(out.splitlines()[0])["executionId"]
        following = [*command, "logs", "-f", execution_id[:30]]
        with subprocess.Popen(following, env=there, cwd=ROOT, **pipes) as log:  # type: ignore[call-overload]
            fleet.start("worker")
            fleet.start("orchestrator")
            out, talk = log.communicate(timeout=60)
            assert (log.returncode, talk) == (0, "")
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[1:] for line in lines] == [
        ["one", "1", "started", "bare.echo"],
        ["one", "1", "completed", ""],
        ["two", "1", "started", "bare.fail"],
        ["two", "1", "failed", "rpc_error: server bare answered with error -32000: not yet (call 1 of 2)"],
        ["two", "2", "failed", "rpc_error: server bare answered with error -32000: not yet (call 2 of 2)"],
        ["two", "3", "completed", ""],
        ["three", "1", "started", "bare.echo"],
        ["three", "1", "skipped", ""],
        ["", "", "completed", ""],
    ]
    assert lines == sorted(lines, key=lambda line: line[0])


def test_keys_come_from_a_variable_or_a_file(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    """A refused one exits with 5, and none is ever shown."""
    good = make_key(pool, "viewer")
    (tmp_path / "key").write_text(good + "\n")
    (tmp_path / "empty").write_text(" ")
    with running_api(settings, Trust(keys=True)) as url:
        there = far(url, tmp_path)
        cases = [
            (there | {"AFU9_API_KEY": good}, ["ls"], 0, "no executions yet"),
            (there, ["ls", "--api-key-file", str(tmp_path / "key")], 0, "no executions yet"),
            (there, ["ls"], 5, "AFU9_API_KEY"),
            (there | {"AFU9_API_KEY": "afu9_abcdefghijkl_s3cr3t"}, ["ls"], 5, "not known"),
            (there | {"AFU9_API_KEY": "s3cr3t é"}, ["ls"], 2, "characters"),
            (there | {"AFU9_API_KEY": good}, ["run", file(tmp_path, ABSENT)], 5, "submitter"),
            (there, ["ls", "--api-key-file", str(tmp_path / "empty")], 2, "holds no key"),
            (there, ["ls", "--api-key-file", str(tmp_path / "nowhere")], 3, "no file"),
            (there | {"AFU9_URL": ""}, ["ls", "--api-key-file", str(tmp_path / "key")], 2, "--url"),
            (there, ["ls", "--api-key", good], 2, "No such option"),
        ]
        for way, command, code, words in cases:
            answer = afu9(way, *command)
            assert (answer.returncode, answer.stdout) == (code, ""), answer.stderr
            assert words in answer.stderr
            assert "Traceback" not in answer.stderr
            assert "s3cr3t" not in answer.stderr
            assert good not in answer.stderr or "--api-key" in command


HTML = b"<html>hello</html>"
PROBLEM = b'{"type": "https://afu9.dev/problems/internal", "status": 500, "detail": "it is in the log of the API"}'


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (http("200 OK", "text/html", HTML), 1, "not an AFU-9 API"),
        (http("500 Internal Server Error", "text/html", HTML), 1, "not an AFU-9 API"),
        (http("500 Internal Server Error", "application/problem+json", PROBLEM), 1, "in the log of the API"),
        (http("200 OK", "application/json", b'{"executions": ['), 1, "not JSON"),
        (http("502 Bad Gateway", "text/html", HTML), 6, "cannot serve now"),
        (b"", 6, "does not answer"),
    ],
    ids=["HTML", "HTML 500", "500", "broken JSON", "502", "nothing"],
)
def test_odd_answers_are_said_in_one_sentence(answer: bytes, code: int, words: str, tmp_path: Path) -> None:
    """With an exit code that a script can tell apart."""
    with serving(scripted(answer)) as peer:
        said = afu9(far(peer.url, tmp_path), "ls")
    assert (said.returncode, said.stdout) == (code, "")
    assert words in said.stderr
    assert len(said.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "url", "code", "words"),
    [
        (["ls"], "http://127.0.0.1:1", 6, "http://127.0.0.1:1 does not answer"),
        (["show", "ffffffff"], "http://127.0.0.1:1", 6, "does not answer"),
        (["watch", "ffffffff"], "http://127.0.0.1:1", 6, "does not answer"),
        (["logs", "ffffffff"], "http://127.0.0.1:1", 6, "does not answer"),
        (["run"], "http://127.0.0.1:1", 6, "does not answer"),
        (["ls"], "nonsense", 2, "the API's address is not one"),
        (["ls"], "http://user:s3cr3t@127.0.0.1:1", 2, "AFU9_API_KEY"),
    ],
)
def test_no_api_there(command: list[str], url: str, code: int, words: str, tmp_path: Path) -> None:
    """One sentence; the option wins over the variable."""
    arguments = [*command, *([file(tmp_path, FLOW)] if command == ["run"] else []), "--url", url]
    answer = afu9(far("http://127.0.0.1:2", tmp_path), *arguments)
    assert (answer.returncode, answer.stdout) == (code, ""), answer.stderr
    assert words in answer.stderr
    assert "s3cr3t" not in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_a_server_that_dies_over_a_run_makes_one_execution(
    settings: Settings, fleet: Fleet, pool: Pool, tmp_path: Path
) -> None:
    """Its answer is lost with it; when it is back, the same execution is followed to its end."""
    fleet.start("worker")
    with running_api(settings) as url, serving(Link(url, b"POST ")) as link:
        command = [sys.executable, "-m", "control_center", "run", file(tmp_path, ABSENT), "--json"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=far(link.url, tmp_path), cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]
            wait_until(link.down.is_set, 20, "the submission")
            link.come_back()
            out, talk = process.communicate(timeout=60)
            assert (process.returncode, talk) == (7, "")
    with pool.connection() as connection:
        rows = connection.execute("SELECT id FROM workflow_executions").fetchall()
    assert [str(row["id"]) for row in rows] == [json.loads(out)["executionId"]]


def test_options_of_this_machine_are_refused(tmp_path: Path) -> None:
    """The API's workers have their own servers; in memory no API is asked."""
    there = far("http://127.0.0.1:1", tmp_path)
    answer = afu9(there, "run", file(tmp_path, ABSENT), "--mcp-config", str(tmp_path / "mcp.json"))
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "--mcp-config" in answer.stderr
    with bare_server() as url:
        config = mcp_config(tmp_path, bare={"url": url, "protocol": "jsonrpc"})
        answer = afu9(there | {"AFU9_MCP_CONFIG": str(config)}, "run", file(tmp_path, ABSENT), "--no-persistence")
    assert answer.returncode == 7, answer.stderr
    assert json.loads(answer.stdout)["persisted"] is False
