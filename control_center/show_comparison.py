"""A comparison as the API answers it and `afu9 diff --json` prints it: camelCase, secrets hidden, long values cut.

Secrets are hidden by the keys on the way to a value too, after the comparison: that a token is another one is told, the
token is not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from control_center.api.shapes import _Shape
from control_center.progress import iso
from orchestrator.compare import Comparison, Delta, Divergence, Row, Side, What
from orchestrator.difference import Change, Kind
from orchestrator.explain_change import explain_divergence
from workers.secrets import redact

LONGEST_VALUE = 1000  # characters of JSON
BEGINNING = 200


class ShownChange(_Shape):
    """One place. `path` points into B, or into A at what was removed; `origin` into A, null at what was added. A value too
    long to show is {"truncated": true, "size", "beginning"}: characters of JSON, and how it begins."""

    kind: Kind
    path: str
    origin: str | None
    before: Any
    after: Any


class ShownDelta(_Shape):
    """`more`: changes beyond those listed."""

    what: What
    changes: list[ShownChange]
    more: int


class ShownDivergence(_Shape):
    """`step` null: in what both were started with, or only in how they ended."""

    what: What
    step: str | None
    iteration: int
    change: ShownChange


class ShownSide(_Shape):
    index: int
    tool: str | None
    status: str
    duration_ms: int | None
    retry_count: int
    cost: float | None


class ShownStep(_Shape):
    """`iteration` counts the steps of one name. `a`, `b`: null where the execution has no such step."""

    name: str
    iteration: int
    verdict: Literal["same", "changed", "added", "removed"]
    moved: bool
    a: ShownSide | None
    b: ShownSide | None
    deltas: list[ShownDelta]


class ShownExecution(_Shape):
    id: str
    workflow: str | None
    title: str | None
    status: str
    started_at: str | None
    duration_ms: int | None
    cost: float | None


class ShownDefinition(_Shape):
    """Steps by name, in the order of the comparison. `same`: null if an execution has no definition."""

    same: bool | None
    added: list[str]
    removed: list[str]
    reordered: list[str]
    changed: list[str]


class ShownSummary(_Shape):
    """Numbers of steps, and what B took or cost more than A."""

    same: int
    changed: int
    added: int
    removed: int
    duration_ms_delta: int | None
    cost_delta: float | None


class ShownComparison(_Shape):
    """B as it differs from A. `sentence`: the first divergence in words. `deltas`: of the executions as wholes."""

    sentence: str
    first_divergence: ShownDivergence | None
    summary: ShownSummary
    definition: ShownDefinition
    a: ShownExecution
    b: ShownExecution
    deltas: list[ShownDelta]
    steps: list[ShownStep]


def show_comparison(comparison: Comparison) -> ShownComparison:
    """The whole of it; as large as the executions have steps, whatever the size of their outputs."""
    found, steps = comparison.first_divergence, comparison.steps
    first = None if found is None else replace(found, change=_cut(found.change, found.what))
    return ShownComparison(
        sentence=explain_divergence(first),
        first_divergence=None if first is None else _divergence(first),
        summary=ShownSummary(
            same=comparison.count("same"),
            changed=comparison.count("changed"),
            added=comparison.count("added"),
            removed=comparison.count("removed"),
            duration_ms_delta=_more(*comparison.duration_ms),
            cost_delta=_more(*comparison.cost),
        ),
        definition=ShownDefinition(
            same=comparison.definition_same,
            added=[step.name for step in steps if step.verdict == "added"],
            removed=[step.name for step in steps if step.verdict == "removed"],
            reordered=[step.name for step in steps if step.moved],
            changed=[step.name for step in steps if any(delta.what == "definition" for delta in step.deltas)],
        ),
        a=_execution(comparison.a, comparison.duration_ms[0], comparison.cost[0]),
        b=_execution(comparison.b, comparison.duration_ms[1], comparison.cost[1]),
        deltas=_deltas(comparison.deltas),
        steps=[
            ShownStep(
                name=step.name,
                iteration=step.iteration,
                verdict=step.verdict,
                moved=step.moved,
                a=_side(step.a),
                b=_side(step.b),
                deltas=_deltas(step.deltas),
            )
            for step in steps
        ],
    )


def _more(a: Any, b: Any) -> Any:
    return None if a is None or b is None else b - a


def _execution(row: Row, duration_ms: int | None, cost: float | None) -> ShownExecution:
    return ShownExecution(
        id=str(row["id"]),
        workflow=(row["definition"] or {}).get("name"),
        title=row["title"],
        status=row["status"],
        started_at=iso(row["started_at"]),
        duration_ms=duration_ms,
        cost=cost,
    )


def _side(side: Side | None) -> ShownSide | None:
    if side is None:
        return None
    return ShownSide(
        index=side.index,
        tool=side.tool,
        status=side.status,
        duration_ms=side.duration_ms,
        retry_count=side.retry_count,
        cost=side.cost,
    )


def _deltas(deltas: Sequence[Delta]) -> list[ShownDelta]:
    return [
        ShownDelta(what=delta.what, changes=[_change(_cut(one, delta.what)) for one in delta.changes], more=delta.more)
        for delta in deltas
    ]


def _divergence(first: Divergence) -> ShownDivergence:
    return ShownDivergence(what=first.what, step=first.step, iteration=first.iteration, change=_change(first.change))


def _change(change: Change) -> ShownChange:
    return ShownChange(
        kind=change.kind, path=change.path, origin=change.origin, before=change.before, after=change.after
    )


def _cut(change: Change, what: What) -> Change:
    """The same, as it may be seen. What a tool says of itself holds no secrets."""
    path = "" if what == "tool_schema" else change.path
    return replace(change, before=_seen(change.before, path), after=_seen(change.after, path))


def _seen(value: Any, path: str) -> Any:
    keys = [key.replace("~1", "/").replace("~0", "~") for key in path.split("/")[1:]]
    for key in reversed(keys):
        value = {key: value}
    try:
        value = redact(value)
        for key in keys:
            value = value[key]
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return {"truncated": True, "size": None, "beginning": "(nested too deeply to show)"}
    if len(text) <= LONGEST_VALUE:
        return value
    return {"truncated": True, "size": len(text), "beginning": text[:BEGINNING]}
