"""Controls from the command line, with the database and over HTTP: the same words, the same exit codes."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from control_center import control_many
from control_center.cli import invoke
from control_center.keys import Trust
from orchestrator.broker import StepBroker
from orchestrator.work_off_jobs import work_off
from persistence.executions import create_execution
from persistence.pool import Pool
from persistence.settings import Settings
from tests.acceptance.test_commands_over_http import far, said
from tests.api_server import running_api
from tests.drive import drive, status_of, submit
from tests.fleet import bare_server, environment, mcp_config, running_fleet
from tests.integration.test_api import make_key
from tests.integration.test_controls import failed_at
from tests.integration.test_transitions import catalogue
from tests.workflows import FunctionTools, echo, sequence

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(params=["database", "HTTP"])
def say(
    request: pytest.FixtureRequest,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Say]:
    """A command's exit code, stdout and stderr, one way and the other."""
    with running_api(settings) as url:
        way: Mapping[str, str] = environment(settings) if request.param == "database" else far(url, tmp_path)
        yield lambda *command: said(way, list(command), monkeypatch, capsys)


def ended(pool: Pool, count: int = 3) -> UUID:
    execution_id = submit(pool, sequence(count))
    assert drive(pool, execution_id, FunctionTools(echo=echo)) == "completed"
    return execution_id


def test_an_execution_is_paused_resumed_and_cancelled(say: Say, pool: Pool) -> None:
    """stdout has the id and how it stands; `show` says who did what and why."""
    execution_id = submit(pool, sequence(1))
    one = str(execution_id)
    assert say("pause", one, "--reason", "too  hot")[:2] == (0, f"{one}\tpaused\n")
    assert say("resume", one)[:2] == (0, f"{one}\trunning\n")
    code, out, _ = say("cancel", one, "--json")
    assert code == 0
    assert json.loads(out) == {
        "executionId": one,
        "action": "cancel",
        "status": "cancelled",
        "allowedActions": ["retry", "rerun", "skip", "set-output", "decide", "fork", "replay"],
    }
    code, out, _ = say("show", one)
    lines = out[out.index("controls:") :].splitlines()
    assert lines[1].split("  ")[-1].endswith(": too hot")
    assert [line.split()[2] for line in lines[1:4]] == ["pause", "resume", "cancel"]
    told = json.loads(say("show", one, "--json")[1])["events"]
    assert (told[0]["event"], told[0]["kind"], told[0]["message"]) == ("control", "pause", "too  hot")
    assert told[0]["actor"] in (getpass.getuser(), "anonymous")
    assert "pause" in say("logs", one)[1]


def test_a_dry_run_says_what_would_be_called(say: Say, pool: Pool) -> None:
    """For people and as JSON; nothing is changed."""
    catalogue(pool, repeatable=True)
    execution_id, _, _ = failed_at(pool, 1, 3)
    code, out, _ = say("retry", str(execution_id), "--dry-run")
    assert (code, out.splitlines()) == (
        0,
        [
            f"retry of {execution_id}, which is failed: nothing was changed; it would",
            "  reuse    step_0",
            "  replace  step_1",
            "  call     2 of the tools",
            "    step_1  test.echo  may change things: its server does not say",
            "    step_2  test.echo  may change things: its server does not say",
        ],
    )
    code, out, _ = say("retry", str(execution_id), "--dry-run", "--json")
    shown = json.loads(out)
    assert (code, shown["dryRun"], shown["reused"], shown["replaced"]) == (0, True, ["step_0"], ["step_1"])
    assert [call["tool"] for call in shown["calls"]] == ["test.echo", "test.echo"]
    assert status_of(pool, execution_id) == "failed"


def test_values_come_from_the_line_or_from_files(say: Say, pool: Pool, tmp_path: Path) -> None:
    """Params, outputs, variables, a definition."""
    tools = FunctionTools(echo=echo)
    execution_id = ended(pool)
    (tmp_path / "params.yaml").write_text("value: by hand\n")
    assert say("rerun", str(execution_id), "--step", "step_2", "--input", f"@{tmp_path}/params.yaml")[0] == 0
    drive(pool, execution_id, tools)
    assert say("set-output", str(execution_id), "--step", "1", "--output", "[1, null]")[0] == 0
    drive(pool, execution_id, tools)
    steps = json.loads(say("show", str(execution_id), "--json")[1])["steps"]
    assert [step["output"] for step in steps][1:] == [[1, None], {"value": 2, "before": [1, None]}]
    (tmp_path / "other.json").write_text(
        json.dumps(
            {
                "steps": [
                    {"name": "step_0", "tool": "test.echo", "params": {}, "assign": "v0"},
                    {"name": "new", "tool": "test.echo", "params": {"x": "${v0}"}},
                ]
            }
        )
    )
    fork = ["fork", str(execution_id), "--from", "new", "--set", "v0=7", "--definition", f"{tmp_path}/other.json"]
    code, out, _ = say(*fork, "--json")
    assert code == 0
    made = json.loads(out)["executionId"]
    drive(pool, UUID(made), tools)
    shown = json.loads(say("show", made, "--json")[1])
    assert shown["forkedFrom"] == str(execution_id)
    assert shown["steps"][1]["output"] == {"x": 7}
    assert f"made of {execution_id}" in say("show", made)[1]
    assert "≡ step_0" in say("show", made)[1]
    replayed = say("replay", str(execution_id), "--step", "0", "--input", '{"value": 9}')
    assert (replayed[0], replayed[1].split("\t")[1]) == (0, "running\n")


def test_what_was_replaced_is_shown(say: Say, pool: Pool) -> None:
    """Below the control that replaced it."""
    execution_id, tools, breaks = failed_at(pool, 1, 3)
    breaks.at = None
    say("retry", str(execution_id), "--reason", "mended")
    drive(pool, execution_id, tools)
    out = say("show", str(execution_id))[1]
    assert "replaced step_1, which was failed: tool_error: it broke" in out
    (kept,) = json.loads(say("show", str(execution_id), "--json")[1])["results"]
    assert (kept["index"], kept["error"]) == (1, "it broke")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["pause", "ID"], 4, "is completed cannot be paused; it takes rerun, skip, set-output, decide, fork, replay"),
        (["retry", "ID", "--dry-run"], 4, "cannot be retried"),
        (["decide", "ID", "fail", "--step", "0"], 4, "is completed"),
        (["pause", "ffffffff"], 3, "no execution"),
        (["rerun", "ID", "--step", "none"], 3, "no step"),
        (["fork", "ID", "--workflow", "nobody"], 3, "no workflow"),
        (["fork", "ID", "--definition", "/nowhere.json"], 3, "no file"),
        (["rerun", "ID"], 2, "--step"),
        (["pause", "ID", "--step", "0"], 2, "No such option"),
        (["rerun", "ID", "--step", "0", "--input", "{"], 2, "--input takes JSON or @file"),
        (["rerun", "ID", "--step", "0", "--input", "5"], 2, "must be an object"),
        (["decide", "ID", "done", "--step", "0"], 2, "needs an output"),
        (["decide", "ID", "maybe", "--step", "0"], 2, "maybe"),
        (["fork", "ID", "--set", "nonsense"], 2, "key=value"),
        (["pause", "zebra"], 2, "not an execution id"),
        (["release", "tool", "a.b"], 3, "is not held"),
        (["hold", "person", "ada"], 2, "person"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_exit_codes(say: Say, pool: Pool, command: list[str], code: int, words: str) -> None:
    """4 refused, 3 unknown, 2 usage; nothing on stdout, and nothing has happened."""
    execution_id = ended(pool, 1)
    answer = say(*[str(execution_id) if word == "ID" else word for word in command])
    assert (answer[0], answer[1]) == (code, ""), answer
    assert words in answer[2]
    assert "Traceback" not in answer[2]
    assert status_of(pool, execution_id) == "completed"


def test_an_execution_that_its_caller_keeps_is_refused(say: Say, pool: Pool) -> None:
    """It takes no control."""
    execution_id = create_execution(pool, None, {}, {})
    code, _, talk = say("cancel", str(execution_id))
    assert (code, "it takes no control" in talk) == (4, True)


def test_holds_from_the_command_line(say: Say) -> None:
    """Held, listed, released."""
    assert say("hold", "tool", "bare.echo", "--reason", "it hurts")[:2] == (0, "")
    assert "was held already" in say("hold", "tool", "bare.echo")[2]
    code, out, _ = say("holds")
    assert code == 0
    kind, name, actor, since, reason = out.rstrip("\n").split("\t")
    assert (kind, name, reason) == ("tool", "bare.echo", "it hurts")
    assert actor in (getpass.getuser(), "anonymous")
    shown = json.loads(say("holds", "--json")[1])
    assert (shown["total"], shown["holds"][0]["createdAt"]) == (1, since)
    assert say("release", "tool", "bare.echo")[:2] == (0, "0\n")
    assert say("holds")[:2] == (0, "")


def test_many_are_controlled_as_a_job(say: Say, pool: Pool, settings: Settings) -> None:
    """Counted first; nobody is asked where nobody answers; what is left of a job can be cancelled, once."""
    ids = [submit(pool, sequence(1), labels={"team": "a"}) for _ in range(3)]
    assert say("bulk", "pause", "--label", "team=a", "--dry-run")[:2] == (0, "pause\t3\t3\n")
    code, out, talk = say("bulk", "pause", "--label", "team=a")
    assert (code, out) == (2, "")
    assert "3 of them take it" in talk
    assert [status_of(pool, one) for one in ids] == ["running"] * 3
    made = json.loads(say("bulk", "pause", *map(str, ids[:2]), "-y", "--reason", "too hot", "--json")[1])["jobs"][0]
    assert (made["status"], made["total"], made["reason"]) == ("pending", 2, "too hot")
    with closing(StepBroker(settings.redis_url, namespace=settings.namespace)) as broker:
        work_off(pool, broker, 30)
    assert [status_of(pool, one) for one in ids] == ["paused", "paused", "running"]
    code, out, _ = say("jobs", made["id"])
    assert (code, out.split("\t")[:6]) == (0, [made["id"], "completed", "pause", "2", "2", "0"])
    assert say("jobs", made["id"], "--wait")[0] == 0
    code, _, talk = say("jobs", made["id"], "--cancel")
    assert code == 4
    assert "nothing is left to cancel" in talk
    code, out, _ = say("bulk", "cancel", "--status", "running", "--status", "paused", "-y", "--json")
    other = json.loads(out)["jobs"][0]["id"]
    stopped = json.loads(say("jobs", other, "--cancel", "--reason", "a mistake", "--json")[1])["jobs"][0]
    assert (stopped["status"], stopped["cancelReason"], stopped["done"]) == ("cancelled", "a mistake", 0)
    with closing(StepBroker(settings.redis_url, namespace=settings.namespace)) as broker:
        work_off(pool, broker, 30)
    assert [status_of(pool, one) for one in ids] == ["paused", "paused", "running"]
    assert (say("jobs", other)[0], say("jobs", other, "--wait")[0]) == (0, 8)
    with pool.connection() as connection:
        connection.execute("UPDATE control_jobs SET refused = 1, failed = 1, done = 1 WHERE id = %s", (made["id"],))
    assert (say("jobs", made["id"])[0], say("jobs", made["id"], "--wait")[0]) == (0, 7)
    listed = json.loads(say("jobs", "--json")[1])
    assert [one["status"] for one in listed["jobs"]] == ["cancelled", "completed"]


def test_a_bulk_that_somebody_cancelled_meanwhile_ends_so(
    say: Say, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8, as a cancelled execution; nothing of it was done."""
    execution_id = submit(pool, sequence(1))
    monkeypatch.setattr(control_many, "_follow", lambda source, job_id: source.cancel_job(job_id, "ada", None))
    code, out, _ = say("bulk", "pause", str(execution_id), "-y", "--wait")
    assert (code, out.split("\t")[1]) == (8, "cancelled")
    assert status_of(pool, execution_id) == "running"


@pytest.mark.parametrize(
    ("command", "told", "code"),
    [
        (["bulk", "cancel", "-y"], "in common", 2),
        (["bulk", "cancel", "x", "--status", "failed", "-y"], "not both", 2),
        (["bulk", "cancel", "--label", "team", "-y"], "NAME=VALUE", 2),
        (["bulk", "cancel", str(UUID(int=7)), "-y"], "no execution", 3),
        (["jobs", "--cancel"], "say which job", 2),
        (["jobs", "x"], "not the id of a job", 2),
        (["jobs", str(UUID(int=7))], "no job", 3),
        (["jobs", str(UUID(int=7)), "--cancel"], "no job", 3),
    ],
)
def test_what_cannot_be_a_control_of_many_is_refused(say: Say, command: list[str], told: str, code: int) -> None:
    """In words, and nothing is changed."""
    found, _, talk = say(*command)
    assert (found, told in talk) == (code, True), talk


def test_waiting_ends_as_run_does(say: Say, settings: Settings, pool: Pool, tmp_path: Path) -> None:
    """0 completed, 7 failed; as JSON the whole result."""
    flow = {"steps": [{"name": "one", "tool": "bare.echo", "params": {"n": 1}, "assign": "one"}]}
    from orchestrator.validate import validate

    good, bad = submit(pool, validate(flow)), submit(pool, sequence(1, tool="bare.absent", retry={"maxAttempts": 1}))
    for one in (good, bad):
        assert say("cancel", str(one))[0] == 0
    with bare_server() as server:
        config = mcp_config(tmp_path, bare={"url": server, "protocol": "jsonrpc"})
        with running_fleet(environment(settings, config), tmp_path, "worker", "orchestrator"):
            code, out, _ = say("retry", str(good), "--wait", "--json")
            assert (code, json.loads(out)["output"]) == (0, {"one": {"n": 1}})
            code, out, _ = say("retry", str(bad), "--wait")
            assert code == 7
            code, out, talk = say(
                "bulk", "retry", str(bad), str(good), "-y", "--wait"
            )  # what becomes of them is no matter
            assert (code, out.split("\t")[3:6], "1 done, 1 refused" in talk) == (0, ["2", "1", "1"], True)
            code, out, _ = say("fork", str(good), "--wait", "--json")
            assert (code, json.loads(out)["forkedFrom"]) == (0, str(good))


def test_a_key_without_the_role_is_not_allowed(
    settings: Settings, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5, and the execution goes on."""
    execution_id = submit(pool, sequence(1))
    monkeypatch.setenv("AFU9_API_KEY", make_key(pool, "submitter"))
    with running_api(settings, Trust(keys=True)) as url:
        for command in (["pause", str(execution_id)], ["hold", "tool", "a.b"]):
            assert invoke([*command, "--url", url]) == 5
        assert invoke(["holds", "--url", url]) == 0
    assert status_of(pool, execution_id) == "running"


def test_what_the_command_line_does_to_the_database_is_audited(
    settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the user's name."""
    execution_id = submit(pool, sequence(1))
    way = environment(settings)
    for command in (
        ["pause", str(execution_id)],
        ["hold", "server", "x"],
        ["release", "server", "x"],
        ["pause", str(uuid4())],
    ):
        said(way, command, monkeypatch, capsys)
    with pool.connection() as connection:
        rows = connection.execute("SELECT principal, action, target FROM audit_log ORDER BY id").fetchall()
    who = f"cli:{getpass.getuser()}"
    assert [tuple(row.values()) for row in rows] == [
        (who, "execution.pause", str(execution_id)),
        (who, "server.hold", "x"),
        (who, "server.release", "x"),
    ]
