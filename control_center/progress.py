"""Following an execution to its end: a live bar on a terminal, JSON lines elsewhere; and executions as JSON objects."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click

from control_center.source import Row, Source
from orchestrator.price import usd
from workers.secrets import redact

AT_REST = ("completed", "failed", "cancelled", "paused")
EXIT_CODES = {"completed": 0, "failed": 7, "cancelled": 8, "paused": 0}
HINT_SECONDS = 3  # without any change, before anybody asks whether a worker is alive


def follow(source: Source, execution_id: UUID, *, quiet: bool = False) -> str:
    """Shows progress until the execution rests; its status."""
    status = ""
    try:
        with _view(quiet) as view:
            for row in changes(source.progress(execution_id), _worker_hint(source)):
                view(row)
                status = row["status"]
    except KeyboardInterrupt:
        if source.lasts:
            click.echo("the execution goes on without us: `afu9 show` tells how", err=True)
        raise
    return status


def changes(looks: Iterator[Row], on_idle: Callable[[float], None] | None = None) -> Iterator[Row]:
    """Those looks that saw something new; ends when the execution rests. `on_idle` hears how long nothing has happened
    (seconds)."""
    changed_at, before = time.monotonic(), None
    for row in looks:
        state = (row["status"], row["steps_done"], row["running_name"], row["retries"])
        if state != before:
            changed_at, before = time.monotonic(), state
            yield row
        elif on_idle is not None:
            on_idle(time.monotonic() - changed_at)
        if row["status"] in AT_REST:
            return


def _worker_hint(source: Source) -> Callable[[float], None]:
    told = False

    def hint(idle_seconds: float) -> None:
        nonlocal told
        if told or idle_seconds < HINT_SECONDS:
            return
        told = True
        if not source.workers_alive():
            click.echo("no worker is alive: start one with `afu9 worker`; the execution waits", err=True)

    return hint


@contextmanager
def _view(quiet: bool) -> Iterator[Callable[[Row], None]]:
    if quiet:
        yield _nothing
    elif sys.stdout.isatty():
        with _live_view() as view:
            yield view
    else:
        yield _line


@contextmanager
def _live_view() -> Iterator[Callable[[Row], None]]:
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

        def view(row: Row) -> None:
            progress.update(
                task,
                description=str(row["status"]),
                total=row["steps_total"],
                completed=row["steps_done"],
                step=row["running_name"] or "",
            )

        yield view


def _nothing(_row: Row) -> None:
    pass


def _line(row: Row) -> None:
    click.echo(
        json.dumps(
            {
                "executionId": str(row["id"]),
                "status": row["status"],
                "stepsDone": row["steps_done"],
                "stepsTotal": row["steps_total"],
                "step": row["running_name"],
                "elapsedMs": elapsed_ms(row["started_at"], row["completed_at"] or row["read_at"]),
            }
        )
    )


def elapsed_ms(started: datetime, end: datetime) -> int:
    """Between two times as they are shown; 0 if our clock is behind the database's."""
    return max(round((in_ms(end) - in_ms(started)).total_seconds() * 1000), 0)


def in_ms(moment: datetime) -> datetime:
    """Cut to milliseconds, as all times are shown."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def result_object(execution: Row, steps: Sequence[Row]) -> dict[str, Any]:
    """The whole result: {executionId, traceId, status, input, output, error, forkedFrom, steps: [...]}, durations in ms."""
    return {
        "executionId": str(execution["id"]),
        "status": execution["status"],
        "input": execution["input"],
        "output": redact(execution["output"]),
        "error": execution["error"],
        "startedAt": iso(execution["started_at"]),
        "completedAt": iso(execution["completed_at"]),
        "forkedFrom": text(execution["forked_from"]),
        "traceId": trace_id(execution["id"]),
        **cost_keys(execution),
        "steps": step_objects(steps),
    }


def step_objects(steps: Sequence[Row]) -> list[dict[str, Any]]:
    """Steps with the original's keys, and ours after them."""
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
            "override": redact(step["override"]),
            "reusedFrom": text(step["reused_from"]),
            **cost_keys(step),
        }
        for step in steps
    ]


def result_objects(results: Sequence[Row]) -> list[dict[str, Any]]:
    """Results that were replaced, oldest first."""
    return [
        {
            "id": one["id"],
            "stepId": str(one["step_id"]),
            "index": one["step_index"],
            "status": one["status"],
            "attempt": one["attempt"],
            "input": one["input"],
            "output": redact(one["output"]),
            "error": one["error"],
            "errorKind": one["error_kind"],
            "startedAt": iso(one["started_at"]),
            "completedAt": iso(one["completed_at"]),
            "durationMs": one["duration_ms"],
            "retryCount": one["retry_count"],
            "control": one["control"],
            "replacedAt": iso(one["replaced_at"]) or "",
        }
        for one in results
    ]


def show_state(state: Row) -> dict[str, Any]:
    """A state object (orchestrator/reconstruct.py) as it may be seen."""
    steps = [{**step, "output": redact(step["output"])} for step in state["steps"]]
    return {**state, "input": redact(state["input"]), "context": redact(state["context"]), "steps": steps}


def cost_keys(row: Row) -> dict[str, Any]:
    """Of an execution or a step: US dollars as a decimal text, null if nothing is priced, and the calls without a price."""
    return {"costUsd": dollars(row.get("cost_nanos")), "unpricedCalls": row.get("unpriced_calls")}


def trace_id(execution_id: UUID | str) -> str:
    """An execution's trace has the execution's id, as 32 digits."""
    return str(execution_id).replace("-", "")


def dollars(nanos: int | None) -> str | None:
    return None if nanos is None else usd(nanos)


def event_objects(events: Sequence[Row]) -> list[dict[str, Any]]:
    """Attempts that failed, were lost or handed back, and operators' acts."""
    return [
        {
            "stepId": str(event["step_id"]) if event["step_id"] else None,
            "attempt": event["attempt"],
            "event": event["event"],
            "kind": event["kind"],
            "message": event["message"],
            "actor": event["actor"],
            "detail": redact(event["detail"]),
            "startedAt": iso(event["started_at"]),
            "at": iso(event["created_at"]),
        }
        for event in events
    ]


def text(value: object) -> str | None:
    """An id, where there is one."""
    return None if value is None else str(value)


def iso(moment: datetime | None) -> str | None:
    """UTC with milliseconds and Z."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
