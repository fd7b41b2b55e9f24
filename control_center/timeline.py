"""An execution as text: header, timeline with every attempt, error and output. Pure: rows in, lines out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from psycopg.rows import DictRow

from workers.secrets import redact

GLYPHS = {
    "pending": "○",
    "running": "◐",
    "completed": "✓",
    "failed": "✕",
    "skipped": "–",
    "cancelled": "⊘",
    "paused": "⏸",
}
WIDTH = 40
PREVIEW = 2000


def render_execution(execution: DictRow, steps: Sequence[DictRow], events: Sequence[DictRow]) -> Iterator[str]:
    """Lines for a terminal, without colour."""
    status = execution["status"]
    name = execution["title"] or execution["workflow_name"] or "execution"
    yield f"{GLYPHS[status]} {name} {execution['id']}  {status}  {_span(execution)}"
    yield ""
    yield from render_timeline(execution, steps, events)
    if execution["error"]:
        yield ""
        yield f"error: {execution['error']}"
    if execution["output"]:
        yield ""
        yield "output:"
        yield _cut(json.dumps(redact(execution["output"]), indent=2, ensure_ascii=False))


def render_timeline(execution: DictRow, steps: Sequence[DictRow], events: Sequence[DictRow]) -> Iterator[str]:
    """One line per step with its bar, duration and retries, and below it one per attempt that did not make it."""
    begin = execution["started_at"]
    ends = [step["completed_at"] or step["claimed_at"] for step in steps if step["started_at"]]
    end = max([execution["completed_at"] or begin, *(moment for moment in ends if moment)])
    names = max([len(step["step_name"]) for step in steps], default=0)
    tools = max([len(step["tool"] or "") for step in steps], default=0)
    for step in steps:
        bar = _bar(step["started_at"], step["completed_at"], begin, end)
        yield (
            f"  {GLYPHS[step['status']]} {step['step_name']:<{names}}  {step['tool'] or '':<{tools}}  {bar}  "
            f"{_milliseconds(step['duration_ms']):>9}{_retries(step)}"
        ).rstrip()
        for event in events:
            if event["step_id"] == step["id"]:
                yield f"      attempt {event['attempt']}: {event['event'].removeprefix('attempt_')}: {event['message']}"
        if step["status"] == "failed" and step["error_kind"]:
            yield f"      {step['error_kind']}: {step['error']}"


def _bar(started: datetime | None, completed: datetime | None, begin: datetime, end: datetime) -> str:
    if started is None:
        return " " * WIDTH
    whole = max((end - begin).total_seconds(), 0.001)
    first = min(int((started - begin).total_seconds() / whole * WIDTH), WIDTH - 1)
    last = int(((completed or end) - begin).total_seconds() / whole * WIDTH)
    return ("·" * first + "█" * max(last - first, 1)).ljust(WIDTH, "·")[:WIDTH]


def _span(execution: DictRow) -> str:
    if execution["completed_at"] is None:
        return f"since {execution['started_at']:%Y-%m-%d %H:%M:%S}"
    return _milliseconds(round((execution["completed_at"] - execution["started_at"]).total_seconds() * 1000))


def _milliseconds(value: int | None) -> str:
    if value is None:
        return ""
    return f"{value} ms" if value < 10_000 else f"{value / 1000:.1f} s"


def _retries(step: DictRow) -> str:
    count: Any = step["retry_count"]
    return f"  {count} {'retry' if count == 1 else 'retries'}" if count else ""


def _cut(text: str) -> str:
    return (
        text if len(text) <= PREVIEW else f"{text[:PREVIEW]}\n… {len(text) - PREVIEW} more characters: --json shows all"
    )
