"""The embedded servers, real ones: whatever is killed, the next start works, rows are kept, nothing is left running."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from persistence.embedded import EmbeddedUnavailable, find_running, open_embedded
from persistence.embedded.account import Account, choose_account, within_reach
from persistence.embedded.find import find_postgres
from persistence.embedded.lock import try_lock
from persistence.embedded.process import read_pid
from tests.integration.embedded_holder import HOLD, REPOSITORY, Holder, add, answers, left_running, places, until

SERVERS = ("postgresql", "valkey")


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """A state folder below a 0700 one; as root that puts the cluster elsewhere, which is removed too."""
    folder = tmp_path / "state"
    yield folder
    sockets = [(folder / "sockets").readlink()] if (folder / "sockets").is_symlink() else []
    for pid in left_running(folder, (folder / "pg").resolve(), *sockets):
        with suppress(ProcessLookupError):  # only after a failure, or while they obey their last will, is there any
            os.kill(pid, signal.SIGKILL)
    until(lambda: not left_running(folder, (folder / "pg").resolve(), *sockets))
    with suppress(OSError):
        if (folder / "pg").is_symlink():
            shutil.rmtree((folder / "pg").readlink().parent)
    for place in sockets:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def hold(state_dir: Path) -> Iterator[Callable[..., Holder]]:
    """Start holders; each is ended, and with it its servers, when the test ends."""
    holders: list[Holder] = []

    def start(*words: str) -> Holder:
        holders.append(Holder(state_dir, *words))
        return holders[-1]

    yield start
    for holder in holders:
        holder.end()


def test_starts_from_nothing_and_keeps_rows_over_a_restart(state_dir: Path) -> None:
    """Both servers come up from an empty folder, and a second start finds what the first one wrote."""
    assert find_running(state_dir) is None
    assert not state_dir.exists()
    with open_embedded(state_dir) as endpoints:
        assert endpoints.owner
        assert add(endpoints) == (1, 1)
    with open_embedded(state_dir) as endpoints:
        assert add(endpoints) == (2, 2)


def test_durable_servers_flush_and_private_sockets_are_the_only_door(state_dir: Path) -> None:
    """The settings that keep data are on, nothing listens on a port, and the sockets are closed to others."""
    with open_embedded(state_dir) as endpoints:
        with psycopg.connect(endpoints.database_url) as connection:
            names = (
                "fsync",
                "synchronous_commit",
                "listen_addresses",
                "max_connections",
                "server_encoding",
                "lc_collate",
            )
            shown = [connection.execute(f"SELECT current_setting('{name}', true)").fetchone()[0] for name in names]  # type: ignore[index]
        assert shown[:5] == ["on", "on", "", "200", "UTF8"]
        with Redis.from_url(endpoints.redis_url) as client:
            assert client.config_get("appendonly", "appendfsync", "maxmemory-policy", "port") == {
                "appendonly": "yes",
                "appendfsync": "everysec",
                "maxmemory-policy": "noeviction",
                "port": "0",
            }
        _, data, run = places(endpoints)
        assert (run / "pg").stat().st_mode & 0o777 == 0o700
        assert data.stat().st_mode & 0o777 == 0o700
        kept = [run / "redis.sock", *(state_dir / "redis").rglob("*")]
        assert [path for path in kept if path.stat().st_mode & 0o077] == []


def test_a_second_process_attaches_and_leaves_the_servers_running(state_dir: Path, hold: Callable[..., Holder]) -> None:
    """It gets the same addresses, does not own them, and its end stops nothing."""
    with open_embedded(state_dir) as mine:
        other = hold()
        theirs = other.endpoints()
        assert not theirs.owner
        assert (theirs.database_url, theirs.redis_url) == (mine.database_url, mine.redis_url)
        other.end()
        assert add(mine) == (1, 1)


def test_a_killed_server_comes_back_at_the_same_address_with_its_data(state_dir: Path) -> None:
    """The owner restarts what was killed; what had been written is there again."""
    with open_embedded(state_dir) as endpoints:
        assert add(endpoints) == (1, 1)
        # everysec: what Valkey was told is on disk after a second at most
        until(lambda: any(b"count" in file.read_bytes() for file in (state_dir / "redis").rglob("*.aof")))
        for name in SERVERS:
            before = read_pid(state_dir / f"{name}.pid")
            assert before
            os.kill(before, signal.SIGKILL)
            until(lambda: read_pid(state_dir / f"{name}.pid") not in (before, None) and answers(endpoints))  # noqa: B023
        assert add(endpoints) == (2, 2)


def test_a_killed_postmaster_comes_back_while_a_backend_is_still_busy(state_dir: Path) -> None:
    """A backend in the middle of a computation does not see its postmaster die, and must not block the new one."""
    with open_embedded(state_dir, durable=False) as endpoints:
        started = threading.Event()

        def compute() -> None:
            with suppress(psycopg.Error), psycopg.connect(endpoints.database_url) as connection:
                started.set()
                connection.execute("SELECT count(*) FROM generate_series(1, 100000000000)")

        busy = threading.Thread(target=compute)
        busy.start()
        started.wait(10)
        postmaster = read_pid(state_dir / "postgresql.pid")
        assert postmaster
        os.kill(postmaster, signal.SIGKILL)
        until(lambda: answers(endpoints))
        busy.join(10)
        assert not busy.is_alive()


@pytest.mark.parametrize("words", [(), ("no-last-will",)], ids=["last will", "orphans"])
def test_a_killed_owner_leaves_nothing_and_the_next_start_keeps_the_rows(
    state_dir: Path, hold: Callable[..., Holder], words: tuple[str, ...]
) -> None:
    """On Linux the servers end with it; where the kernel does not do that, the next start ends them first."""
    owner = hold(*words)
    endpoints = owner.endpoints()
    assert add(endpoints) == (1, 1)
    known = places(endpoints)
    orphans = [read_pid(state_dir / f"{name}.pid") for name in SERVERS]
    assert find_running(state_dir) == replace(endpoints, owner=False)
    owner.kill()
    assert (state_dir / "endpoints.json").exists()
    assert find_running(state_dir) is None
    if words:
        assert len(left_running(*known)) >= 2
    else:
        until(lambda: not left_running(*known))
    with open_embedded(state_dir) as endpoints:
        assert add(endpoints) == (2, 2)
        assert endpoints.owner
        for pid in orphans:
            assert pid
            assert not Path(f"/proc/{pid}/cwd").exists()
    assert not left_running(*known)


def test_three_cold_starts_at_once_make_one_owner(hold: Callable[..., Holder]) -> None:
    """One process owns, the two others wait for it and attach."""
    holders = [hold() for _ in range(3)]
    found = [holder.endpoints() for holder in holders]
    assert sorted(endpoints.owner for endpoints in found) == [False, False, True]
    assert len({(endpoints.database_url, endpoints.redis_url) for endpoints in found}) == 1


def test_a_first_start_killed_half_way_is_begun_anew(state_dir: Path, hold: Callable[..., Holder]) -> None:
    """A half-made cluster is never started; the next start makes a whole one."""
    first = hold()
    until(lambda: (state_dir / "pg").resolve().with_name("pg.new").joinpath("base").exists())
    first.kill()
    assert not (state_dir / "pg").exists()
    with open_embedded(state_dir) as endpoints:
        assert add(endpoints) == (1, 1)
    assert not (state_dir / "pg").resolve().with_name("pg.new").exists()


def test_stale_files_of_an_earlier_life_do_not_matter(state_dir: Path) -> None:
    """Pid files that name a process of today, cut-off ones, old sockets and an old note: the start works."""
    with open_embedded(state_dir) as endpoints:
        add(endpoints)
        _, data, run = places(endpoints)
    for name in SERVERS:
        (state_dir / f"{name}.pid").write_text(f"{os.getpid()}\n/nowhere\n")
    (data / "postmaster.pid").write_text(f"{os.getppid()}\n{data}\n")
    (state_dir / "endpoints.json").write_text("{")
    run.mkdir(mode=0o700)
    if os.geteuid() == 0:
        run.chmod(0o711)
    (run / "redis.sock").write_text("")
    (run / "pg").mkdir()
    (run / "pg" / ".s.PGSQL.5432.lock").write_text(f"{os.getppid()}\n")
    (state_dir / "sockets").symlink_to(run)
    with open_embedded(state_dir) as endpoints:
        assert add(endpoints) == (2, 2)
    (data / "postmaster.pid").write_text("")
    with open_embedded(state_dir) as endpoints:
        assert add(endpoints) == (3, 3)


def test_the_sockets_folder_of_someone_else_is_not_used(state_dir: Path, tmp_path: Path) -> None:
    """If another user took the remembered name in /tmp, a new folder is made instead."""
    state_dir.mkdir()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    foreign.chmod(0o777)
    (state_dir / "sockets").symlink_to(foreign)
    with open_embedded(state_dir, durable=False) as endpoints:
        assert str(foreign) not in endpoints.redis_url
        assert add(endpoints) == (1, 1)
    assert foreign.exists()


def test_the_callers_environment_does_not_matter(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locales that are not installed, and PostgreSQL's own variables, change neither start nor connection."""
    bogus = {"LANG": "xx_YY.UTF-8", "LC_ALL": "xx_YY", "PGHOST": "203.0.113.1", "PGPORT": "1", "PGDATA": "/nowhere"}
    for name, value in {**bogus, "PGSSLMODE": "require", "PGUSER": "x", "PGDATABASE": "x", "TZ": "Mars/Base"}.items():
        monkeypatch.setenv(name, value)
    with open_embedded(state_dir, durable=False) as endpoints:
        assert add(endpoints) == (1, 1)


def test_closing_leaves_no_process_and_without_durability_no_folder(state_dir: Path) -> None:
    """After close there is neither a server nor, if nothing was to be kept, any folder of ours."""
    servers = open_embedded(state_dir, durable=False)
    known = places(servers.endpoints)
    assert left_running(*known)
    servers.close()
    servers.close()
    assert not left_running(*known)
    assert not state_dir.exists()
    assert not known[2].exists()


def test_a_throwaway_run_does_not_touch_data_that_are_kept(state_dir: Path) -> None:
    """durable=False on a folder with a cluster begins empty, and leaves that cluster as it was."""
    with open_embedded(state_dir) as endpoints:
        assert [add(endpoints), add(endpoints)] == [(1, 1), (2, 2)]
    with open_embedded(state_dir, durable=False) as endpoints:
        assert add(endpoints) == (1, 1)
    with open_embedded(state_dir) as endpoints:
        assert add(endpoints) == (3, 3)


def test_an_owner_that_forgets_to_close_still_stops_its_servers(state_dir: Path, hold: Callable[..., Holder]) -> None:
    """A process that simply ends takes its servers with it."""
    owner = hold("no-close")
    known = places(owner.endpoints())
    assert owner.process.wait(20) == 0
    assert not left_running(*known)


def test_ctrl_c_reaches_the_owner_but_not_the_servers(state_dir: Path, hold: Callable[..., Holder]) -> None:
    """The servers are in sessions of their own; the owner's context manager stops them in order."""
    owner = hold()
    endpoints = owner.endpoints()
    pids = [read_pid(state_dir / f"{name}.pid") for name in SERVERS]
    assert [os.getsid(pid or 0) for pid in pids] == pids
    os.killpg(owner.process.pid, signal.SIGINT)
    assert owner.process.wait(20) != 0
    assert not left_running(*places(endpoints))
    assert "database system is shut down" in (state_dir / "logs" / "postgresql.log").read_text()


def test_a_forked_child_neither_holds_the_lock_nor_stops_the_servers(state_dir: Path) -> None:
    """A child made by fork ends without closing anything, and does not keep the folder locked."""
    servers = open_embedded(state_dir)
    try:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(write)
            servers.close()
            os.read(read, 1)  # until the parent has closed its end
            os._exit(0)
        os.close(read)
        assert answers(servers.endpoints)
        servers.close()
        lock = try_lock(state_dir)
        assert lock
        lock.close()
        os.close(write)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        servers.close()


def test_a_server_that_does_not_start_is_explained_and_leaves_nothing(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error carries the exit code and the end of the log, and the other server is stopped again."""
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no memory left\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("AFU9_REDIS_BIN", str(broken))
    with pytest.raises(
        EmbeddedUnavailable, match=r"Valkey did not start \(it ended with exit code 3\)(.|\n)*no memory"
    ):
        open_embedded(state_dir, durable=False)
    assert not left_running(state_dir)
    assert find_running(state_dir) is None


def test_fakeredis_serves_dramatiq_when_there_is_no_server(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last resort knows Dramatiq's scripts from the start, so the first message of a fresh server arrives."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker, _scripts

    from persistence.embedded import find

    monkeypatch.setattr(
        "persistence.embedded.valkey.find_valkey", lambda: [sys.executable, "-P", str(find.FAKE_SERVER)]
    )
    with open_embedded(state_dir, durable=False) as endpoints:
        assert endpoints.redis_url.startswith("redis://127.0.0.1:")
        known = [hashlib.sha1(text, usedforsecurity=False).hexdigest() for text in _scripts.values()]
        with Redis.from_url(endpoints.redis_url) as client:
            assert known
            assert all(client.script_exists(*known))
        broker: dramatiq.Broker = RedisBroker(url=endpoints.redis_url)  # type: ignore[no-untyped-call]
        broker.declare_queue("default")
        broker.enqueue(dramatiq.Message("default", "act", (), {}, {}))
        broker.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has PostgreSQL run as another account")
def test_root_copies_programs_that_the_account_cannot_reach(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs below a 0700 folder are copied once, with their libraries, to a place of root's that all may read."""
    monkeypatch.delenv("AFU9_PG_BIN", raising=False)
    programs = find_postgres()
    if "site-packages" not in programs.parts:
        pytest.skip("the embedded extra is not installed, and a system's server is spread over many folders")
    hidden = tmp_path / "packages" / programs.parent.parent.name / programs.parent.name
    shutil.copytree(programs.parent, hidden, ignore=shutil.ignore_patterns("include"))
    libraries = f"{programs.parent.parent.name}.libs"
    if (programs.parents[2] / libraries).is_dir():
        shutil.copytree(programs.parents[2] / libraries, tmp_path / "packages" / libraries)
    with tempfile.TemporaryDirectory(prefix="afu9-shared-", dir="/tmp") as shared:
        Path(shared).chmod(0o755)
        monkeypatch.setattr("persistence.embedded.account.SHARED", Path(shared))
        monkeypatch.setenv("AFU9_PG_BIN", str(hidden / "bin"))
        with open_embedded(state_dir, durable=False) as endpoints:
            assert add(endpoints) == (1, 1)
        (copy,) = Path(shared).iterdir()
        assert (copy.stat().st_uid, copy.stat().st_mode & 0o777) == (0, 0o755)
        assert within_reach(hidden / "bin", choose_account(state_dir)).is_relative_to(copy)
        assert list(Path(shared).iterdir()) == [copy]


def test_a_normal_user_can_run_it() -> None:
    """As root this is tried as `nobody`; as anyone else every test here has shown it already."""
    if os.geteuid() != 0:
        pytest.skip("this run is a normal user's already")
    nobody = pwd.getpwnam("nobody")
    home = Path(tempfile.mkdtemp(prefix="afu9-home-", dir="/tmp"))
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    become = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    if not Account(nobody.pw_uid, nobody.pw_gid).reaches(Path(sys.executable)):
        # The interpreter lies below a 0700 folder: nobody may read everything, and still is not root.
        become += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    try:
        done = subprocess.run(
            [*become, sys.executable, "-c", HOLD, str(home / "state")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            env={"HOME": str(home), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["owner"]
        assert (home / "state" / "pg" / "PG_VERSION").stat().st_uid == nobody.pw_uid
        assert not left_running(home)
    except FileNotFoundError:
        pytest.skip("there is no setpriv to become the account nobody with")
    finally:
        shutil.rmtree(home)
