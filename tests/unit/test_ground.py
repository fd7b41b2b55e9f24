"""Small pieces of the ground: settings, ids, JSON for jsonb."""

from __future__ import annotations

import time
from typing import Any

import pytest

from persistence.errors import InvalidInput
from persistence.ids import time_ordered_uuid
from persistence.json_value import InvalidJson, decode_json, encode_json
from persistence.settings import Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "DATABASE_URL",
        "DATABASE_HOST",
        "DATABASE_USER",
        "DATABASE_PASSWORD",
        "DATABASE_NAME",
        "DATABASE_PORT",
    ):
        monkeypatch.delenv(name, raising=False)


def test_the_originals_variables_make_a_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and passwords with special characters survive."""
    monkeypatch.setenv("DATABASE_HOST", "db.internal")
    monkeypatch.setenv("DATABASE_PORT", "6432")
    monkeypatch.setenv("DATABASE_NAME", "afu9")
    monkeypatch.setenv("DATABASE_USER", "work er")
    monkeypatch.setenv("DATABASE_PASSWORD", "p@ss/w:rd")
    assert Settings.load().database_dsn == "postgresql://work%20er:p%40ss%2Fw%3Ard@db.internal:6432/afu9"


def test_a_socket_folder_may_be_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """As libpq takes it."""
    monkeypatch.setenv("DATABASE_HOST", "/var/run/postgresql")
    assert Settings.load().database_dsn == "postgresql://postgres@/afu9?host=/var/run/postgresql&port=5432"


def test_database_url_wins_and_nothing_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without either variable there is no database, and nothing is guessed."""
    assert Settings.load().database_dsn == ""
    monkeypatch.setenv("DATABASE_HOST", "one")
    monkeypatch.setenv("DATABASE_URL", "postgresql://two/x")
    assert Settings.load().database_dsn == "postgresql://two/x"


def test_settings_that_cannot_be_used_are_named_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable by its name."""
    monkeypatch.setenv("AFU9_THREADS", "many")
    monkeypatch.setenv("AFU9_LEASE_SECONDS", "-1")
    with pytest.raises(InvalidInput) as raised:
        Settings.load()
    assert "AFU9_THREADS" in str(raised.value)
    assert "AFU9_LEASE_SECONDS" in str(raised.value)


def test_a_lease_shorter_than_two_heartbeats_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One late heartbeat must not kill a worker."""
    monkeypatch.setenv("AFU9_LEASE_SECONDS", "6")
    with pytest.raises(InvalidInput, match="at least twice"):
        Settings.load()


def test_the_password_is_not_shown() -> None:
    """Settings may end up in a log."""
    assert "hidden" not in repr(Settings(database_host="h", database_password="hidden"))


def test_ids_sort_by_time() -> None:
    """Version 7: milliseconds first."""
    first = time_ordered_uuid()
    deadline = time.time_ns() // 1_000_000 + 1
    while time.time_ns() // 1_000_000 <= deadline:
        pass
    second = time_ordered_uuid()
    assert first < second
    assert (first.version, first.variant) == (7, second.variant)
    assert len({time_ordered_uuid() for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    "value", [None, 0, 2**70, -(2**63), 2**53 + 1, 0.1, "", "ü\u2028", [], {}, {"a": [1, {"b": None}]}, "\\u0000"]
)
def test_json_survives_both_ways(value: Any) -> None:
    """Exactly, integers of any size included."""
    assert decode_json(encode_json(value)) == value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": [1, float("nan")]}, "/a/1"),
        ({"a": float("inf")}, "/a"),
        ({"a": {"b": "x\0"}}, "NUL character (\\u0000) at /a/b"),
        ({"x\0": 1}, "NUL"),
        (["\ud800"], "lone surrogate) at /0"),
        ({"a": {1, 2}}, "set"),
    ],
)
def test_what_jsonb_cannot_hold_is_refused_with_its_place(value: Any, words: str) -> None:
    """The message says where."""
    with pytest.raises(InvalidJson) as raised:
        encode_json(value, what="the result")
    assert str(raised.value).startswith("the result cannot be stored as JSON: ")
    assert words in str(raised.value)


def test_nesting_without_end_is_refused() -> None:
    """On the way in and on the way out."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidJson, match="deeply"):
        encode_json(deep)
    with pytest.raises(ValueError, match="deeply"):
        decode_json("[" * 100_000)


@pytest.mark.parametrize("text", ["NaN", '{"a": Infinity}', b'"\xff"', "", "{"])
def test_what_is_not_json_is_not_decoded(text: str | bytes) -> None:
    """The standard library would take NaN."""
    with pytest.raises(ValueError, match=r"[a-z]"):
        decode_json(text)
