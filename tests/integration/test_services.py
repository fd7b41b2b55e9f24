"""Servers that several commands share: whoever reaches them has them until it is done."""

from __future__ import annotations

import fcntl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from control_center import services
from control_center.services import open_services
from persistence.embedded import open_embedded
from persistence.pool import connect
from persistence.settings import Settings


def test_who_finds_servers_that_are_about_to_end_starts_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked before the owner's end, and would use them after it."""
    state, found = tmp_path / "state", threading.Event()

    def reach(folder: Path) -> object:
        servers = open_embedded(folder)
        found.set()
        return servers

    def use() -> tuple[str, object]:
        with open_services(Settings(state_dir=state)) as reached, connect(reached.settings.database_dsn) as connection:
            return reached.origin, connection.execute("SELECT 1 AS answer").fetchone()

    owner = open_embedded(state)
    monkeypatch.setattr(services, "open_embedded", reach)
    with ThreadPoolExecutor(1) as threads, (state / "clients.lock").open("ab") as ending:
        fcntl.flock(ending, fcntl.LOCK_EX)  # as an owner does that has waited for the others
        using = threads.submit(use)
        assert found.wait(30)
        owner.close()
        fcntl.flock(ending, fcntl.LOCK_UN)
        assert using.result(60) == ("embedded", {"answer": 1})
