"""A role under chaos: `afu9 worker` or `afu9 orchestrator` as they are, in a process of their own with faults patched in.

Every connection to PostgreSQL carries the worker's id as its application_name, so that the audit (watch.sql) can tell
who wrote, without asking the engine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orchestrator.__main__  # noqa: F401  # as below
import workers.serve  # noqa: F401  # imported once by the fork server, so that a start costs a fork
from control_center.cli import invoke
from persistence import pool
from persistence.settings import Settings
from tests.chaos.diary import Diary, diary_of
from tests.chaos.fate import Fate
from tests.chaos.faults import Post, arm
from workers.process import WorkerProcess


@dataclass(frozen=True, slots=True)
class Part:
    """What one process plays."""

    role: str
    number: int
    environment: Mapping[str, str]
    folder: Path
    seed: str
    fate: Fate | None
    post: Post

    @property
    def name(self) -> str:
        return f"{self.number}-{self.role}"


def play(part: Part) -> None:
    """The whole life of the process. Ends when told to, or when the process that started it is gone."""
    os.environ.clear()
    os.environ.update(part.environment)
    _redirect(part.folder / f"{part.name}.log")
    pool.CONNECTION["application_name"] = part.role
    diary = diary_of(part.folder)
    _sign_connections(diary)
    arm(part.fate, part.post, part.seed, diary)
    sys.exit(invoke([part.role, "--parent", str(os.getppid())]))


def _redirect(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)


def _sign_connections(diary: Diary) -> None:
    begin = WorkerProcess.__init__

    def signed(self: WorkerProcess, settings: Settings, **options: Any) -> None:
        begin(self, settings, **options)
        pool.CONNECTION["application_name"] = str(self.worker_id)
        diary.write("worker", worker_id=str(self.worker_id))

    WorkerProcess.__init__ = signed  # type: ignore[method-assign]
