"""Settings that come from files: for secrets, which an environment shows to too many."""

from __future__ import annotations

from pathlib import Path

import pytest

from persistence.errors import InvalidInput
from persistence.settings import SECRETS, Settings


@pytest.fixture(autouse=True)
def no_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the caller's shell says."""
    for name in ("DATABASE_HOST", "DATABASE_USER", "DATABASE_NAME", "DATABASE_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


def test_a_password_comes_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the end of its line, and with every other character."""
    (tmp_path / "password").write_text(" a/b@c \n")
    monkeypatch.setenv("DATABASE_HOST", "db")
    monkeypatch.setenv("DATABASE_PASSWORD_FILE", str(tmp_path / "password"))
    assert Settings.load().database_dsn == "postgresql://postgres:%20a%2Fb%40c%20@db:5432/afu9"


def test_urls_come_from_files_unless_the_variables_say_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`afu9 dev` gives its roles DATABASE_URL, whatever it was started with."""
    for name in ("DATABASE_URL", "REDIS_URL"):
        (tmp_path / name).write_text("redis://file\n" if name == "REDIS_URL" else "postgresql://file/x\n")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    settings = Settings.load()
    assert (settings.database_url, settings.redis_url) == ("postgresql://file/x", "redis://file")
    monkeypatch.setenv("REDIS_URL", "redis://variable")
    assert Settings.load().redis_url == "redis://variable"


def test_a_file_that_cannot_be_read_is_named_with_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absent, or not text."""
    monkeypatch.setenv("DATABASE_PASSWORD_FILE", str(tmp_path / "absent"))
    with pytest.raises(InvalidInput, match=r"DATABASE_PASSWORD_FILE: .*absent cannot be read: No such file"):
        Settings.load()
    (tmp_path / "absent").write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="it is not UTF-8"):
        Settings.load()
