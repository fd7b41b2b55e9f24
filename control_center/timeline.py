"""An execution as text: header, timeline with every attempt, error and output. Pure: rows in, lines out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from control_center.progress import dollars, elapsed_ms, in_ms, trace_id
from control_center.source import Row
from workers.secrets import redact

GLYPHS = {
    "pending": "○",
    "running": "◐",
    "completed": "✓",
    "failed": "✕",
    "skipped": "–",
    "cancelled": "⊘",
    "paused": "‖",
}
REUSED = "≡"  # a result that was taken over from another execution
WIDTH = 40
PREVIEW = 2000


def glyph(status: str) -> str:
    """A newer API may have words that are not known here."""
    return GLYPHS.get(status, "?")


def render_execution(
    execution: Row, steps: Sequence[Row], events: Sequence[Row], replaced: Sequence[Row] = ()
) -> Iterator[str]:
    """Lines for a terminal, without colour. `replaced`: results that a person had run again."""
    status = execution["status"]
    name = execution["title"] or execution["workflow_name"] or "execution"
    yield f"{glyph(status)} {name} {execution['id']}  {status}  {_span(execution)}"
    if execution.get("forked_from"):
        yield f"made of {execution['forked_from']}"
    yield from _cost(execution)
    yield f"trace {trace_id(execution['id'])}"
    yield ""
    yield from render_timeline(execution, steps, events)
    yield from _render_controls(steps, events, replaced)
    if execution["error"]:
        yield ""
        yield f"error: {execution['error']}"
    if execution["output"]:
        yield ""
        yield "output:"
        yield _cut(json.dumps(redact(execution["output"]), indent=2, ensure_ascii=False))


def _render_controls(steps: Sequence[Row], events: Sequence[Row], replaced: Sequence[Row]) -> Iterator[str]:
    """Who did what and why, and below it the results that it replaced."""
    controls = [event for event in events if event["event"] == "control"]
    if not controls:
        return
    names = {step["step_index"]: step["step_name"] for step in steps}
    yield ""
    yield "controls:"
    for event in controls:
        why = f": {' '.join(event['message'].split())}" if event["message"] else ""
        other = _other_execution(event)
        yield f"  {event['created_at'].astimezone(UTC):%Y-%m-%d %H:%M:%S}  {event['kind']} by {event['actor']}{why}{other}"
        for one in replaced:
            if one["control"] == event["id"]:
                error = f": {one['error_kind']}: {one['error']}" if one["error"] else ""
                yield f"      replaced {names[one['step_index']]}, which was {one['status']}{error}"


def _other_execution(event: Row) -> str:
    detail = event["detail"] or {}
    if "to" in detail:
        return f" -> {detail['to']}"
    return f" of {detail['of']}" if "of" in detail else ""


def render_timeline(execution: Row, steps: Sequence[Row], events: Sequence[Row]) -> Iterator[str]:
    """One line per step with its bar, duration and retries, and below it one per attempt that did not make it."""
    begin = in_ms(execution["started_at"])
    ends = [step["completed_at"] or step["claimed_at"] for step in steps if step["started_at"]]
    end = max(in_ms(moment) for moment in [execution["completed_at"] or begin, *ends] if moment)
    names = max([len(step["step_name"]) for step in steps], default=0)
    tools = max([len(step["tool"] or "") for step in steps], default=0)
    for step in steps:
        own = None if step.get("reused_from") else step["started_at"]  # another execution's time is not on this line
        bar = _bar(own, step["completed_at"], begin, end)
        mark = REUSED if step.get("reused_from") else glyph(step["status"])
        yield (
            f"  {mark} {step['step_name']:<{names}}  {step['tool'] or '':<{tools}}  {bar}  "
            f"{_milliseconds(step['duration_ms']):>9}{_retries(step)}{_step_cost(step)}"
        ).rstrip()
        for event in events:
            if event["step_id"] == step["id"]:
                yield f"      attempt {event['attempt']}: {event['event'].removeprefix('attempt_')}: {event['message']}"
        if step["status"] == "failed" and step["error_kind"]:
            yield f"      {step['error_kind']}: {step['error']}"


def _bar(started: datetime | None, completed: datetime | None, begin: datetime, end: datetime) -> str:
    if started is None:
        return " " * WIDTH
    started, completed = in_ms(started), completed and in_ms(completed)
    whole = max((end - begin).total_seconds(), 0.001)
    first = min(int((started - begin).total_seconds() / whole * WIDTH), WIDTH - 1)
    last = int(((completed or end) - begin).total_seconds() / whole * WIDTH)
    return ("·" * first + "█" * max(last - first, 1)).ljust(WIDTH, "·")[:WIDTH]


def _span(execution: Row) -> str:
    if execution["completed_at"] is None:
        return f"since {execution['started_at'].astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return _milliseconds(elapsed_ms(execution["started_at"], execution["completed_at"]))


def _milliseconds(value: int | None) -> str:
    if value is None:
        return ""
    return f"{value} ms" if value < 10_000 else f"{value / 1000:.1f} s"


def _retries(step: Row) -> str:
    count: Any = step["retry_count"]
    return f"  {count} {'retry' if count == 1 else 'retries'}" if count else ""


def _cost(execution: Row) -> Iterator[str]:
    """Nothing where nothing has a price and nobody set a limit."""
    spent, most = dollars(execution.get("cost_nanos")), dollars(execution.get("max_cost_nanos"))
    if spent is None and most is None:
        return
    unpriced = execution.get("unpriced_calls")
    limit = f" of at most {most} USD" if most is not None else ""
    calls = f", {unpriced} unpriced {'call' if unpriced == 1 else 'calls'}" if unpriced else ""
    yield f"cost: {spent or '0.00'} USD{limit}{calls}"


def _step_cost(step: Row) -> str:
    spent = dollars(step.get("cost_nanos"))
    return f"  {spent} USD" if spent is not None else ""


def _cut(text: str) -> str:
    return (
        text if len(text) <= PREVIEW else f"{text[:PREVIEW]}\n… {len(text) - PREVIEW} more characters: --json shows all"
    )
