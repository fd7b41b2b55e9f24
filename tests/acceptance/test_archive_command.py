"""`afu9 archive` and `afu9 restore` as commands: what they say, what stops them, and where they may die."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from control_center.client import Client
from control_center.client import errors as client_errors
from persistence.pool import Pool
from persistence.settings import Settings
from tests.acceptance.test_commands_over_http import said
from tests.api_server import running_api
from tests.fleet import ROOT, environment, wait_until
from tests.integration.test_archive import completed, count_until, ids, rows, sql
from tests.integration.test_roles import logins as logins
from tests.read_page import words

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    return lambda *command: said(environment(settings), list(command), monkeypatch, capsys)


@pytest.fixture
def counted(pool: Pool) -> Pool:
    count_until(pool, "1 minute")
    return pool


def command(to: Path) -> list[str]:
    return ["archive", "--older-than", "90d", "--to", str(to), "--rate", "1"]


def test_there_and_back(counted: Pool, say: Say, tmp_path: Path) -> None:
    """stdout is the directory, and what came back; the audit log has both."""
    one = completed(counted)
    before = rows(counted)
    code, out, err = say(*command(tmp_path / "old"), "--dry-run")
    assert (code, out.split("\t")[1]) == (0, "1")
    assert "at most 1 executions" in err
    assert json.loads(say(*command(tmp_path / "old"), "--dry-run", "--json")[1])["executions"] == 1
    code, location, err = say(*command(tmp_path / "old"))
    assert code == 0
    assert "1 executions archived" in err
    code, _, err = say("show", str(one))
    assert code == 3
    assert "was archived on" in err
    assert f"`afu9 restore {location.strip()} --execution {one}`" in err
    assert say("archive", "--older-than", "90d", "--to", str(tmp_path / "old"))[::2] == (0, "nothing to archive\n")
    code, out, _ = say("restore", location.strip(), "--execution", str(one))
    assert (code, out) == (0, "1 executions restored, 3 rows\n")
    assert rows(counted) == before
    told = json.loads(say("restore", location.strip(), "--json")[1])
    assert told == {"location": location.strip(), "executions": 0, "rows": 0, "there": 1, "elsewhere": 0}
    told = json.loads(say(*command(tmp_path / "old"), "--json")[1])
    assert (told["executions"], told["kept"], told["files"], told["resumed"]) == (1, 0, 1, [])
    actions = sql(counted, "SELECT action, target FROM audit_log ORDER BY id")
    assert [row["action"] for row in actions] == ["executions.archive", "executions.restore", "executions.archive"]
    assert actions[0]["target"] == location.strip()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["archive", "--older-than", "90", "--to", "x"], 2, "is not an age"),
        (["archive", "--older-than", "90d", "--to", "ftp://x"], 2, "s3"),
        (["archive", "--older-than", "90d", "--to", "x", "--rate", "0"], 2, "rate"),
        (["archive", "--older-than", "90d"], 2, "--to"),
        (["restore", "/nowhere/at/all"], 3, "there is no"),
        (["restore", "x", "--execution", "y"], 2, "execution"),
    ],
)
def test_what_cannot_be_used(say: Say, arguments: list[str], code: int, text: str) -> None:
    """Says so, with the exit codes of all commands."""
    found, _, err = say(*arguments)
    assert (found, text in err) == (code, True), err


def test_nothing_counted_yet(pool: Pool, say: Say, tmp_path: Path) -> None:
    """Refused, with what to start."""
    completed(pool)
    code, _, err = say(*command(tmp_path))
    assert (code, "afu9 orchestrator" in err) == (4, True)


def test_without_the_extra(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name, and how to install it."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    code, _, err = say(*command(tmp_path))
    assert (code, "pip install 'afu9[archive]'" in err) == (1, True)


def test_a_reader_may_not(counted: Pool, logins: dict[str, str], settings: Settings, tmp_path: Path) -> None:
    """One sentence, no file, nothing deleted; a member of afu9_app may, and may restore."""
    completed(counted)
    before = rows(counted)
    done = spawn(settings.model_copy(update={"database_url": logins["reader"]}), *command(tmp_path / "a"))
    assert done.returncode == 1
    assert "this role may not do it" in done.stderr
    assert "Traceback" not in done.stderr
    assert rows(counted) == before
    assert not (tmp_path / "a").exists()
    app = settings.model_copy(update={"database_url": logins["app"]})
    done = spawn(app, *command(tmp_path / "a"))
    assert done.returncode == 0, done.stderr
    assert ids(counted) == set()
    back = spawn(app, "restore", done.stdout.strip())
    assert back.returncode == 0, back.stderr
    assert rows(counted) == before


def spawn(settings: Settings, *arguments: str, point: str | None = None) -> subprocess.CompletedProcess[str]:
    module = ["control_center"] if point is None else ["tests.acceptance.dying_archive", point]
    return subprocess.run(
        [sys.executable, "-m", *module, *arguments],
        env=environment(settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("point", ["begun", "written", "verified", "noted", "deleting", "deleted", "second", "ended"])
def test_killed_and_run_again(counted: Pool, settings: Settings, tmp_path: Path, point: str) -> None:
    """By SIGKILL, before and after each act: in the end each execution is in the tables or in one archive, and all come
    back."""
    all_of_them = {completed(counted) for _ in range(7)}
    before = rows(counted)
    assert spawn(settings, *command(tmp_path / "a"), point=point).returncode == -9
    left = ids(counted)
    assert len(left) == {"deleting": 5, "deleted": 3, "second": 3, "ended": 0}.get(point, 7)
    again = spawn(settings, *command(tmp_path / "a"))
    assert again.returncode == 0, again.stderr
    assert ids(counted) == set()
    assert where(tmp_path / "a") == sorted(all_of_them)
    for folder in (tmp_path / "a").iterdir():
        told = json.loads((folder / "manifest.json").read_text())
        assert told["state"] == "complete"
        assert {path.name for path in folder.iterdir()} == {"manifest.json", *(file["name"] for file in told["files"])}
        assert spawn(settings, "restore", str(folder)).returncode == 0
    assert rows(counted) == before
    assert sql(counted, "SELECT * FROM workflow_archives WHERE finished_at IS NULL") == []


def where(place: Path) -> list[UUID]:
    """The executions in all archives there, that were deleted: each as often as it is there."""
    found = []
    for manifest in place.glob("*/manifest.json"):
        for file in json.loads(manifest.read_text())["files"]:
            for line in gzip.decompress((manifest.parent / file["name"]).read_bytes()).splitlines():
                found += [UUID(one) for one in json.loads(line).get("batch", {}) if one not in file["kept"]]
    return sorted(found)


def test_killed_while_the_database_deletes(counted: Pool, settings: Settings, dsn: str, tmp_path: Path) -> None:
    """The statement goes on without it, or not: the next run finds out."""
    all_of_them = sorted(completed(counted) for _ in range(3))
    before = rows(counted)
    with psycopg.connect(dsn) as holder:
        other = uuid4()
        holder.execute("INSERT INTO workflow_archives (id, location, older_than) VALUES (%s, 'x', now())", (other,))
        holder.execute("INSERT INTO archived_executions VALUES (%s, %s)", (all_of_them[1], other))
        process = subprocess.Popen(
            [sys.executable, "-m", "control_center", *command(tmp_path / "a")], env=environment(settings), cwd=ROOT
        )
        try:
            waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            wait_until(lambda: sql(counted, waiting), 30, "the wait for a lock")
        finally:
            process.kill()
            process.wait()
        holder.rollback()
    mine = "(SELECT oid FROM pg_database WHERE datname = current_database())"
    active = f"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND database = {mine}"  # noqa: S608  # ours
    wait_until(lambda: not sql(counted, active), 30, "the end of its connection")
    assert len(ids(counted)) in (0, 3)
    assert spawn(settings, *command(tmp_path / "a")).returncode == 0
    assert ids(counted) == set()
    assert where(tmp_path / "a") == all_of_them
    for folder in (tmp_path / "a").iterdir():
        assert spawn(settings, "restore", str(folder)).returncode == 0
    assert rows(counted) == before


@pytest.mark.parametrize(("size", "text"), [("500", "cannot write file://"), ("3000", "does not take a file's copy")])
def test_a_full_disk(counted: Pool, settings: Settings, tmp_path: Path, size: str, text: str) -> None:
    """As a limit to the size of files: exit code 6, nothing deleted; with room it goes on."""
    noise = os.urandom(8000).hex()
    completed(counted, input={"n": noise})
    before = rows(counted)
    done = spawn(settings, *command(tmp_path / "a"), point=f"full={size}")
    assert (done.returncode, text in done.stderr) == (6, True), done.stderr
    assert "Traceback" not in done.stderr
    assert rows(counted) == before
    assert spawn(settings, *command(tmp_path / "a")).returncode == 0
    assert ids(counted) == set()


def test_a_place_without_rights(counted: Pool, settings: Settings, tmp_path: Path) -> None:
    """/proc takes no files from anybody."""
    completed(counted)
    before = rows(counted)
    done = spawn(settings, *command(Path("/proc/afu9")))
    assert (done.returncode, "cannot write" in done.stderr) == (6, True), done.stderr
    assert rows(counted) == before


def test_who_asks_for_an_archived_execution_is_told(
    counted: Pool, settings: Settings, say: Say, tmp_path: Path
) -> None:
    """410 over HTTP, from the client NotFound, on its page the same words, in every command exit code 3."""
    one = completed(counted)
    _, location, _ = say(*command(tmp_path / "old"))
    words_of_it = f"execution {one} was archived on"
    with running_api(settings) as url:
        for path in ("", "/events", "/state", "/results"):
            answer = httpx.get(f"{url}/api/workflow/execution/{one}{path}")
            assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (410, "archived")
            assert words_of_it in answer.json()["detail"]
            assert location.strip() in answer.json()["detail"]
        assert httpx.get(f"{url}/api/workflow/find/{one}").status_code == 410
        assert httpx.get(f"{url}/api/workflow/execution/{uuid4()}").status_code == 404
        page = httpx.get(f"{url}/ui/executions/{one}", headers={"Accept": "text/html"})
        assert page.status_code == 410
        assert words_of_it in words(page)
        with Client(url) as client, pytest.raises(client_errors.NotFound) as caught:
            client.get(one)
        assert (caught.value.status, caught.value.type) == (410, "archived")
        with Client(url) as client, pytest.raises(client_errors.NotFound):
            client.control(one, "retry")
    for told in (["show", str(one)], ["show", str(one)[:20]], ["retry", str(one)], ["diff", str(one), str(one)]):
        code, _, err = say(*told)
        assert (code, words_of_it in err) == (3, True), told
