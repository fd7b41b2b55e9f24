"""A short storm, on each PostgreSQL that is supported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.faults import Post
from tests.chaos.ground import open_ground
from tests.chaos.monkey import Timetable
from tests.chaos.storm import Storm, run_storm

SYSTEM_15 = Path("/usr/lib/postgresql/15/bin")

SHORT = Storm(
    executions=90,
    seed=1,
    timetable=Timetable(
        10, flushes=1, valkey_restarts=1, valkey_stalls=0, postgres_restarts=1, cuts=2, zombies=2, kills=3
    ),
    deaths=5,
)
SHORTER = Storm(
    executions=48,
    seed=2,
    timetable=Timetable(
        5, flushes=1, valkey_restarts=1, valkey_stalls=0, postgres_restarts=1, cuts=1, zombies=1, kills=2
    ),
    deaths=3,
    post=Post(dropped=0.005, doubled=0.1, late=0.05),  # each dropped message costs ten seconds
)


@pytest.mark.chaos
def test_a_short_storm_changes_nothing() -> None:
    """On the PostgreSQL that comes with the embedded extra."""
    assert_harmless(SHORT)


@pytest.mark.chaos
def test_a_storm_on_postgresql_15_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest that is supported, as Debian 12 has it."""
    if not (SYSTEM_15 / "postgres").exists():
        pytest.skip(f"PostgreSQL 15 is not installed in {SYSTEM_15}")
    monkeypatch.setenv("AFU9_PG_BIN", str(SYSTEM_15))
    assert_harmless(SHORTER)


def assert_harmless(storm: Storm) -> None:
    with open_ground() as ground:
        report = run_storm(ground, storm)
    print(report.text())
    assert report.good, report.text()
