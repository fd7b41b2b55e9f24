"""`afu9 api` and `afu9 key` as people run them: who may listen where, keys by command, and how the API stops."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from persistence.pool import Pool
from persistence.settings import Settings
from tests.acceptance.test_commands import afu9
from tests.fleet import Fleet, environment, wait_until


@pytest.fixture
def shell(settings: Settings) -> dict[str, str]:
    return environment(settings)


@pytest.fixture
def fleet(shell: dict[str, str], tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "logs").mkdir()
    started = Fleet(shell, tmp_path / "logs")
    try:
        yield started
    finally:
        started.end()
        print(started.log())


def address(fleet: Fleet) -> str:
    def lines() -> list[str]:
        return [line.split()[1] for line in fleet.log().splitlines() if line.startswith("api  ")]

    wait_until(lines, 20, "the API's address")

    def ready() -> bool:
        try:
            return httpx.get(f"{lines()[-1]}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    wait_until(ready, 20, "the API's start")
    return lines()[-1]


def test_nothing_listens_beyond_this_machine_without_keys(shell: dict[str, str]) -> None:
    """One sentence, exit 2, unless somebody has written that it may."""
    answer = afu9(shell, "api", "--host", "0.0.0.0", "--port", "0")  # noqa: S104  # it must not
    assert answer.returncode == 2
    assert "AFU9_API_AUTH=keys" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_port_that_is_taken_is_named(fleet: Fleet, shell: dict[str, str]) -> None:
    """Exit 1, with a way out."""
    fleet.start("api", "--port", "0")
    port = address(fleet).rsplit(":", 1)[1]
    answer = afu9(shell, "api", "--port", port)
    assert answer.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in answer.stderr


def test_a_key_from_its_creation_to_its_end(fleet: Fleet, shell: dict[str, str], pool: Pool) -> None:
    """Made, used, listed without its secret, revoked; both acts are in the audit log."""
    fleet.environment["AFU9_API_AUTH"] = "keys"
    fleet.start("api", "--port", "0")
    url = address(fleet)
    made = afu9(shell, "key", "create", "--role", "submitter", "--name", "ci", "--expires", "4w")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert httpx.get(f"{url}/api/session").status_code == 401
    mine = {"Authorization": f"Bearer {key}"}
    assert httpx.get(f"{url}/api/session", headers=mine).json() == {"name": "ci", "role": "submitter"}
    listed = afu9(shell, "key", "ls", "--json").stdout
    (row,) = json.loads(listed)["keys"]
    assert (row["name"], row["role"], row["revoked_at"]) == ("ci", "submitter", None)
    assert row["last_used_at"] is not None
    assert key.split("_", 2)[2] not in listed
    assert afu9(shell, "key", "revoke", row["id"]).returncode == 0
    assert "revoked" in afu9(shell, "key", "ls").stdout
    assert afu9(shell, "key", "revoke", "nothing").returncode == 3
    assert afu9(shell, "key", "create", "--name", "x", "--expires", "soon").returncode == 2
    with pool.connection() as connection:
        acts = connection.execute("SELECT action, target FROM audit_log ORDER BY id").fetchall()
    assert [(act["action"], act["target"]) for act in acts] == [("key.create", row["id"]), ("key.revoke", row["id"])]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_api_ends_when_asked(fleet: Fleet, number: signal.Signals) -> None:
    """Exit 0, and nothing answers any more."""
    api = fleet.start("api", "--port", "0")
    url = address(fleet)
    api.send_signal(number)
    assert api.wait(15) == 0
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/healthz")


def test_the_api_needs_its_schema_and_its_services(empty_dsn: str, settings: Settings) -> None:
    """A database without our schema, and no database at all: a sentence each."""
    bare = environment(settings) | {"DATABASE_URL": empty_dsn}
    answer = afu9(bare, "api", "--port", "0")
    assert answer.returncode == 1
    assert "afu9 migrate" in answer.stderr
    nothing = {name: value for name, value in bare.items() if not name.endswith("_URL")}
    assert afu9(nothing, "api").returncode == 2


def test_the_program_is_quick_to_say_what_it_can(shell: dict[str, str]) -> None:
    """`afu9 --help` loads neither the web framework nor the database driver."""
    code = "import sys; from control_center.cli import invoke; invoke(['--help']); print(*sys.modules, file=sys.stderr)"
    answer = subprocess.run([sys.executable, "-c", code], env=shell, capture_output=True, text=True, check=True)
    assert "fastapi" not in answer.stderr
    assert "psycopg" not in answer.stderr
