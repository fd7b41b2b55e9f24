"""Two executions beside each other: step by step, and where they first went different ways. Pure: rows in, values out.

Steps belong together by name, those of one name by their order. First is what comes first in A's order: what both were
started with, then step by step, and within a step in the order of cause: whether it is there and at its place, its
definition, its tool's schema, its params, how it ended, its output. Ids, times, durations, costs, and words that are only
for people (names, titles, descriptions) differ without being a divergence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from orchestrator.difference import LIMIT, Change, differences, staying

Row = Mapping[str, Any]
What = Literal[
    "definition",
    "input",
    "context",
    "missing",
    "extra",
    "order",
    "tool_schema",
    "params",
    "status",
    "error",
    "retries",
    "output",
]
LISTED_IN_ALL = 2000  # changes, over all steps; LIMIT of one step
FOR_PEOPLE = frozenset({"name", "title", "description"})


@dataclass(frozen=True, slots=True)
class Run:
    """An execution as it was read: a row of queries/compare_executions.sql, and its steps by index, of compare_steps.sql.
    tool_schemas: what the tools said of themselves, by `tool` and `tool_hash`."""

    execution: Row
    steps: Sequence[Row]
    tool_schemas: Mapping[tuple[str, str], Any]


@dataclass(frozen=True, slots=True)
class Delta:
    """In what two executions, or two steps, differ; `more`: how many changes beyond those listed."""

    what: What
    changes: tuple[Change, ...]
    more: int


@dataclass(frozen=True, slots=True)
class Side:
    """A step as one of the two executions has it. duration_ms: None until it ended; cost: US dollars, None where none is
    known."""

    index: int
    tool: str | None
    status: str
    duration_ms: int | None
    retry_count: int
    cost: float | None


@dataclass(frozen=True, slots=True)
class ComparedStep:
    """`iteration` counts the steps of one name, from 0. `moved`: at another place among the steps that both have."""

    name: str
    iteration: int
    a: Side | None
    b: Side | None
    moved: bool
    deltas: tuple[Delta, ...]

    @property
    def verdict(self) -> Literal["same", "changed", "added", "removed"]:
        if self.a is None:
            return "added"
        if self.b is None:
            return "removed"
        return "changed" if self.moved or self.deltas else "same"


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where two executions first differ. `step` None: in what both were started with, or only in how they ended."""

    what: What
    step: str | None
    iteration: int
    change: Change


@dataclass(frozen=True, slots=True)
class Comparison:
    """deltas: of the executions as wholes, with paths into input, context, definition without its steps.

    definition_same: None if one of them has no definition. duration_ms: of A and B, None until they ended; cost: the sum
    of the steps' costs, None where none is known.
    """

    a: Row
    b: Row
    first_divergence: Divergence | None
    definition_same: bool | None
    deltas: tuple[Delta, ...]
    steps: tuple[ComparedStep, ...]
    duration_ms: tuple[int | None, int | None]
    cost: tuple[float | None, float | None]

    def count(self, verdict: str) -> int:
        """How many steps are same, changed, added or removed."""
        return sum(step.verdict == verdict for step in self.steps)


def compare(a: Run, b: Run) -> Comparison:
    """B as it differs from A."""
    listing = _Listing()
    before = listing.deltas(_given(a.execution, b.execution))
    pairs = _pairs(a.steps, b.steps)
    moved, at, named = _reordered(pairs)
    definitions = [_step_definitions(run.execution["definition"]) for run in (a, b)]
    steps = tuple(
        ComparedStep(
            name=key[0],
            iteration=key[1],
            a=None if mine is None else _side(mine),
            b=None if theirs is None else _side(theirs),
            moved=key in moved,
            deltas=() if mine is None or theirs is None else listing.deltas(_step(a, b, mine, theirs, *definitions)),
        )
        for key, mine, theirs in pairs
    )
    after = listing.deltas(_ended(a.execution, b.execution))
    return Comparison(
        a=a.execution,
        b=b.execution,
        first_divergence=next(_divergences(before, steps, at, named, after), None),
        definition_same=_same_definition(a.execution, b.execution),
        deltas=before + after,
        steps=steps,
        duration_ms=(_duration(a.execution), _duration(b.execution)),
        cost=(_cost(a.steps), _cost(b.steps)),
    )


def _divergences(
    before: Sequence[Delta],
    steps: Sequence[ComparedStep],
    disordered_at: Key | None,
    out_of_order: Key | None,
    after: Sequence[Delta],
) -> Iterator[Divergence]:
    """All, in the order of cause."""
    by_key = {(step.name, step.iteration): step for step in steps}
    yield from (Divergence(delta.what, None, 0, delta.changes[0]) for delta in before)
    for step in steps:
        if step.b is None and step.a is not None:
            gone = Change("removed", f"/steps/{step.a.index}", f"/steps/{step.a.index}", step.name, None)
            yield Divergence("missing", step.name, step.iteration, gone)
        elif step.a is None and step.b is not None:
            come = Change("added", f"/steps/{step.b.index}", None, None, step.name)
            yield Divergence("extra", step.name, step.iteration, come)
        if (step.name, step.iteration) == disordered_at and out_of_order is not None:
            yield _of_order(by_key[out_of_order])
        yield from (Divergence(delta.what, step.name, step.iteration, delta.changes[0]) for delta in step.deltas)
    yield from (Divergence(delta.what, None, 0, delta.changes[0]) for delta in after)


def _of_order(step: ComparedStep) -> Divergence:
    mine, theirs = [-1 if side is None else side.index for side in (step.a, step.b)]
    moved = Change("moved", f"/steps/{theirs}", f"/steps/{mine}", mine, theirs)
    return Divergence("order", step.name, step.iteration, moved)


# ----------------------------------------------------------------------------------------------- which steps belong together

Key = tuple[str, int]  # a step's name, and how many of that name came before it
_Pair = tuple[Key, Row | None, Row | None]


def _keyed(steps: Sequence[Row]) -> dict[Key, Row]:
    seen: Counter[str] = Counter()
    keyed = {}
    for step in steps:
        keyed[step["step_name"], seen[step["step_name"]]] = step
        seen[step["step_name"]] += 1
    return keyed


def _pairs(a: Sequence[Row], b: Sequence[Row]) -> list[_Pair]:
    """In A's order; what only B has stands before the step that follows it in B."""
    mine, theirs = _keyed(a), _keyed(b)
    order = list(theirs)
    place = {key: number for number, key in enumerate(order)}
    pairs: list[_Pair] = []
    reached = 0
    for key, step in mine.items():
        until = place.get(key, reached)
        pairs += [(one, None, theirs[one]) for one in order[reached:until] if one not in mine]
        reached = max(reached, until)
        pairs.append((key, step, theirs.get(key)))
    return pairs + [(one, None, theirs[one]) for one in order[reached:] if one not in mine]


def _reordered(pairs: Sequence[_Pair]) -> tuple[set[Key], Key | None, Key | None]:
    """The fewest steps that must have moved; the step of A at whose turn B does another; and which one moved there."""
    common = [(key, theirs["step_index"]) for key, mine, theirs in pairs if mine is not None and theirs is not None]
    stay = set(staying([index for _, index in common]))
    moved = {key for number, (key, _) in enumerate(common) if number not in stay}
    for (key, _), (other, _) in zip(common, sorted(common, key=lambda one: one[1]), strict=True):
        if key != other:
            return moved, key, key if key in moved else other
    return moved, None, None


# ----------------------------------------------------------------------------------------------- what is compared

_Compared = tuple[What, Any, Any]


class _Listing:
    """Compares, and lists no more changes than anybody reads."""

    def __init__(self) -> None:
        self._left = LISTED_IN_ALL

    def deltas(self, compared: Iterator[_Compared]) -> tuple[Delta, ...]:
        """Of one step, or of the executions as wholes: those in which there is a difference."""
        allowed = min(LIMIT, self._left)
        found = []
        for what, before, after in compared:
            seen = differences(before, after, allowed)
            allowed -= len(seen.listed)
            self._left -= len(seen.listed)
            if seen.listed or seen.more:
                found.append(Delta(what, seen.listed, seen.more))
        return tuple(found)


def _given(a: Row, b: Row) -> Iterator[_Compared]:
    if a["definition"] is not None and b["definition"] is not None:
        yield "definition", _frame(a["definition"]), _frame(b["definition"])
    yield "input", _input(a), _input(b)
    yield "context", _context(a), _context(b)


def _ended(a: Row, b: Row) -> Iterator[_Compared]:
    yield "status", a["status"], b["status"]
    yield "error", _error_of_whole(a), _error_of_whole(b)


def _error_of_whole(execution: Row) -> dict[str, Any]:
    return {} if execution["error"] is None else {"message": execution["error"]}


def _frame(definition: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in definition.items() if key != "steps" and key not in FOR_PEOPLE}
    return {"config": {}} | kept


def _input(execution: Row) -> Any:
    return {} if execution["input"] is None else execution["input"]


def _context(execution: Row) -> dict[str, Any]:
    return {**execution["context"], "variables": execution["variables"]}


def _step_definitions(definition: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """By the steps' names; `condition` is another word for `if`."""
    words = {"condition": "if"}
    return {
        step["name"]: {words.get(key, key): value for key, value in step.items() if key not in FOR_PEOPLE}
        for step in (definition or {}).get("steps", ())
    }


def _step(
    a: Run, b: Run, mine: Row, theirs: Row, defined: Mapping[str, Any], redefined: Mapping[str, Any]
) -> Iterator[_Compared]:
    """What both have to say, in the order of cause."""
    name = mine["step_name"]
    if name in defined and name in redefined:
        yield "definition", defined[name], redefined[name]
    if mine["tool"] == theirs["tool"] and mine["tool_hash"] and theirs["tool_hash"]:
        yield "tool_schema", _schema(a, mine), _schema(b, theirs)
    if mine["input"] is not None and theirs["input"] is not None:
        yield "params", _params(mine, defined.get(name)), _params(theirs, redefined.get(name))
    yield "status", mine["status"], theirs["status"]
    yield "error", _error(mine), _error(theirs)
    yield "retries", _retries(mine), _retries(theirs)
    if mine["status"] == theirs["status"] == "completed":
        yield "output", mine["output"], theirs["output"]


def _params(step: Row, definition: Mapping[str, Any] | None) -> Any:
    """Without the idempotency key, which is the execution's own."""
    argument = (definition or {}).get("idempotencyArgument")
    params = step["input"]
    return {key: params[key] for key in params if key != argument} if isinstance(params, dict) else params


def _schema(run: Run, step: Row) -> Any:
    return run.tool_schemas[step["tool"], step["tool_hash"]]


def _error(step: Row) -> dict[str, Any]:
    told = {"kind": step["error_kind"], "message": step["error"]}
    return {key: value for key, value in told.items() if value is not None}


def _retries(step: Row) -> dict[str, int]:
    return {"failed": step["retry_count"] - step["lost_count"], "lost": step["lost_count"]}


def _same_definition(a: Row, b: Row) -> bool | None:
    if a["definition_hash"] is None or b["definition_hash"] is None:
        return None
    return bool(a["definition_hash"] == b["definition_hash"])


def _side(step: Row) -> Side:
    cost = step.get("cost")
    return Side(
        index=step["step_index"],
        tool=step["tool"],
        status=step["status"],
        duration_ms=step["duration_ms"],
        retry_count=step["retry_count"],
        cost=None if cost is None else float(cost),
    )


def _cost(steps: Sequence[Row]) -> float | None:
    known = [float(step["cost"]) for step in steps if step.get("cost") is not None]
    return sum(known) if known else None


def _duration(execution: Row) -> int | None:
    begin, end = execution["started_at"], execution["completed_at"]
    if not isinstance(begin, datetime) or not isinstance(end, datetime):
        return None
    return round((end - begin).total_seconds() * 1000)
