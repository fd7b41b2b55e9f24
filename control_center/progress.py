"""Following an execution to its end: a live bar on a terminal, JSON lines elsewhere. The rows are the truth; they are read
a few times a second, in one statement."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
from psycopg.rows import DictRow

from persistence.executions import get_execution_steps, require_execution
from persistence.pool import Pool, run
from workers.secrets import redact

AT_REST = ("completed", "failed", "cancelled", "paused")
INTERVAL = 0.1


def follow(
    pool: Pool, execution_id: UUID, *, quiet: bool = False, on_idle: Callable[[float], None] | None = None
) -> str:
    """Shows progress until the execution rests; its status. `on_idle` hears how long nothing has happened (seconds)."""
    with _view(quiet) as view:
        changed_at, before = time.monotonic(), None
        while True:
            row = run(pool, "get_progress", {"ids": [execution_id]})[0]
            state = (row["status"], row["steps_done"], row["running_name"], row["retries"])
            if state != before:
                changed_at, before = time.monotonic(), state
                view(row)
            elif on_idle is not None:
                on_idle(time.monotonic() - changed_at)
            if row["status"] in AT_REST:
                return str(row["status"])
            threading.Event().wait(INTERVAL)


@contextmanager
def _view(quiet: bool) -> Iterator[Callable[[DictRow], None]]:
    if quiet:
        yield _nothing
    elif sys.stdout.isatty():
        with _live_view() as view:
            yield view
    else:
        yield _line


@contextmanager
def _live_view() -> Iterator[Callable[[DictRow], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[step]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, step="")

        def view(row: DictRow) -> None:
            progress.update(
                task,
                description=str(row["status"]),
                total=row["steps_total"],
                completed=row["steps_done"],
                step=row["running_name"] or "",
            )

        yield view


def _nothing(_row: DictRow) -> None:
    pass


def _line(row: DictRow) -> None:
    click.echo(
        json.dumps(
            {
                "executionId": str(row["id"]),
                "status": row["status"],
                "stepsDone": row["steps_done"],
                "stepsTotal": row["steps_total"],
                "step": row["running_name"],
                "elapsedMs": elapsed_ms(row),
            }
        )
    )


def elapsed_ms(row: DictRow) -> int:
    """From the start to the end, or to now."""
    end: datetime = row["completed_at"] or row["read_at"]
    started: datetime = row["started_at"]
    return round((end - started).total_seconds() * 1000)


def result_object(pool: Pool, execution_id: UUID) -> dict[str, Any]:
    """The whole result: {executionId, status, input, output, error, steps: [...]}, durations in ms."""
    execution = require_execution(pool, execution_id)
    return {
        "executionId": str(execution_id),
        "status": execution["status"],
        "input": execution["input"],
        "output": redact(execution["output"]),
        "error": execution["error"],
        "startedAt": iso(execution["started_at"]),
        "completedAt": iso(execution["completed_at"]),
        "steps": step_objects(get_execution_steps(pool, execution_id)),
    }


def step_objects(steps: Sequence[DictRow]) -> list[dict[str, Any]]:
    """Steps with the original's keys."""
    return [
        {
            "id": str(step["id"]),
            "name": step["step_name"],
            "index": step["step_index"],
            "status": step["status"],
            "tool": step["tool"],
            "input": step["input"],
            "output": redact(step["output"]),
            "startedAt": iso(step["started_at"]),
            "completedAt": iso(step["completed_at"]),
            "durationMs": step["duration_ms"],
            "error": step["error"],
            "errorKind": step["error_kind"],
            "retryCount": step["retry_count"],
        }
        for step in steps
    ]


def iso(moment: datetime | None) -> str | None:
    """UTC with milliseconds and Z."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
