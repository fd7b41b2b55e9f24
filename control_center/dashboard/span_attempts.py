"""Rows of steps and events as spans of time: waits, runs, failed attempts, and the pauses between them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from control_center.dashboard.draw.timeline import Span
from control_center.dashboard.words import span

Row = Mapping[str, Any]
ENDED = ("completed", "failed", "cancelled")
KINDS = {"attempt_failed": "failed", "attempt_lost": "lost", "attempt_released": "released"}


def span_attempts(
    execution: Row, steps: Sequence[Row], shown: Sequence[Row], events: Sequence[Row], replaced: Sequence[Row]
) -> dict[int, list[Span]]:
    """Of the `shown` among all `steps`, by a step's index. The wait ends when the first attempt begins; it began when the
    last step before it ended."""
    ready = _ready(execution, steps)
    attempts: dict[Any, list[Row]] = defaultdict(list)
    for event in events:
        if event["event"] in KINDS and event["started_at"]:
            attempts[event["step_id"]].append(event)
    older: dict[int, list[Row]] = defaultdict(list)
    for one in replaced:
        if one["started_at"]:
            older[one["step_index"]].append(one)
    return {
        step["step_index"]: _of_step(
            execution, step, attempts[step["id"]], older[step["step_index"]], ready[step["step_index"]]
        )
        for step in shown
    }


def time_waits(spans: Mapping[int, Sequence[Span]], now: datetime) -> dict[int, float]:
    """How long each step waited for its first attempt, in milliseconds. Those that did not wait are left out."""
    return {
        index: sum(((one.end or now) - one.start).total_seconds() * 1000 for one in found if one.kind == "wait")
        for index, found in spans.items()
        if any(one.kind == "wait" for one in found)
    }


def _ready(execution: Row, steps: Sequence[Row]) -> dict[int, datetime | None]:
    """When a step could first be claimed, None if its predecessors have not ended."""
    begin = execution["started_at"] or execution["created_at"]
    before: dict[int, list[Row]] = defaultdict(list)
    for step in steps:
        for index in step["successors"]:
            before[index].append(step)
    found: dict[int, datetime | None] = {}
    for step in steps:
        ends = [begin if one["reused_from"] else one["completed_at"] for one in before[step["step_index"]]]
        known = [end for end in ends if end is not None]
        found[step["step_index"]] = None if len(known) < len(ends) else max([begin, *known])
    return found


def _of_step(
    execution: Row, step: Row, attempts: Sequence[Row], older: Sequence[Row], ready: datetime | None
) -> list[Span]:
    rest = execution["completed_at"] if execution["status"] in ENDED else None
    spans = [
        Span(
            "replaced",
            one["started_at"],
            one["completed_at"] or one["replaced_at"],
            f"replaced result: {one['status']}, {span(one['duration_ms'])}",
        )
        for one in older
    ]
    if step["reused_from"]:
        return spans  # it ran in another execution, at times that are not on this line
    for event in attempts:
        kind = KINDS[event["event"]]
        took = span((event["created_at"] - event["started_at"]).total_seconds() * 1000)
        spans.append(
            Span(kind, event["started_at"], event["created_at"], f"attempt {event['attempt']}: {kind} after {took}")
        )
    runs = [one for one in attempts if not older or one["started_at"] >= older[-1]["replaced_at"]]
    first = min(
        [one["started_at"] for one in runs] + ([step["started_at"]] if step["started_at"] else []), default=None
    )
    if older and ready is not None:
        ready = max(ready, older[-1]["replaced_at"])
    if ready is not None and first is not None and first > ready:
        spans.append(Span("wait", ready, first, f"waited {span((first - ready).total_seconds() * 1000)}"))
    if first is None and ready is not None and step["status"] == "pending" and rest is None:
        spans.append(Span("wait", ready, None, "it waits"))
    if (last := _last_run(step, attempts, rest)) is not None:
        spans.append(last)
    ran = sorted((one for one in spans if one.kind not in ("wait", "replaced")), key=lambda one: one.start)
    for one, following in pairwise(ran):
        if one.end is not None and following.start > one.end:
            pause = span((following.start - one.end).total_seconds() * 1000)
            spans.append(Span("backoff", one.end, following.start, f"{pause} before attempt again"))
    if step["status"] == "pending" and ran and rest is None:
        spans.append(Span("backoff", ran[-1].end or ran[-1].start, None, "it waits for its next attempt"))
    return spans


def _last_run(step: Row, attempts: Sequence[Row], rest: datetime | None) -> Span | None:
    """The newest attempt, if no event tells of it."""
    told = {one["attempt"] for one in attempts}
    start = step["claimed_at"] or step["started_at"]
    if start is None or step["attempt"] in told or step["status"] == "pending":
        return None
    if step["status"] == "running":
        word = f"attempt {step['attempt']}: " + ("runs" if rest is None else "cut off when the execution ended")
        return Span("run" if rest is None else "released", start, rest, word)
    end = max(step["completed_at"] or start, start)
    kind = "failed" if step["status"] == "failed" else "run"
    took = span((end - start).total_seconds() * 1000)
    return Span(kind, start, end, f"attempt {step['attempt'] or 1}: {step['status']} after {took}")
