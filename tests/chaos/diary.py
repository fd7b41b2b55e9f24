"""What processes under chaos leave behind in writing, one JSON line each: who they were and where they died.

A line is one write to a file opened for appending, so that it stays whole when its writer is killed right after it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def diary_of(folder: Path) -> Diary:
    """The diary of the processes that work in this folder."""
    return Diary(folder / "diary.jsonl")


def worker_pids(folder: Path) -> dict[str, int]:
    """The process of each worker that ever began."""
    return {line["worker_id"]: line["pid"] for line in diary_of(folder).read("worker")}


class Diary:
    """A file that many processes append to."""

    def __init__(self, path: Path):
        self.path = path

    def write(self, event: str, **facts: Any) -> None:
        line = json.dumps({"event": event, "pid": os.getpid(), **facts}) + "\n"
        number = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(number, line.encode())
        finally:
            os.close(number)

    def read(self, event: str) -> list[dict[str, Any]]:
        """Every line of this kind, in order."""
        if not self.path.exists():
            return []
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [line for line in lines if line["event"] == event]
