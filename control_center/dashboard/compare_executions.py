"""Compare: two executions beside each other, where they first went different ways, and in what their steps differ."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from control_center.api.auth import Principal
from control_center.api.problems import PROBLEMS, Problem, problem_of
from control_center.dashboard.pages import Reader, page
from control_center.dashboard.span_attempts import ENDED
from control_center.dashboard.words import moment, money, span
from control_center.show_comparison import ShownChange, ShownComparison, ShownSide, show_comparison
from orchestrator.compare_stored import compare_stored
from orchestrator.explain_change import named
from persistence.errors import InvalidInput, NotFound
from persistence.executions import find_execution
from persistence.pool import Pool

router = APIRouter(include_in_schema=False)
WINDOW = 200  # rows of the table at once
SHOWN_CHANGES = 5  # of one step
LONGEST_VALUE = 160  # characters
Id = Annotated[str, Query(max_length=100)]


@router.get("/ui/compare")
def compare_executions(
    request: Request,
    reader: Reader,
    a: Id = "",
    b: Id = "",
    previous_good: Annotated[str, Query(alias="previousGood", max_length=10)] = "",
    only: Annotated[str, Query(max_length=10)] = "",
    window: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> Response:
    """Ids, or the beginnings of ones; a form where one is missing or wrong, with what was typed."""
    a, b = a.strip(), b.strip()
    good = previous_good not in ("", "0", "false")
    fault, status = None, 200
    if a or b:
        try:
            return _show(request, reader, _compare(request.app.state.read_pool, a, b, good), only, window)
        except (Problem, NotFound, InvalidInput) as error:
            fault = problem_of(error)
            status = PROBLEMS[fault.slug][0]
    return page(request, "compare_ask.html", status, reader=reader, a=a, b=b, good=good, fault=fault)


def _compare(pool: Pool, a: str, b: str, good: bool) -> ShownComparison:
    """Raises Problem, NotFound and InvalidInput, all of which the form tells."""
    if not b or not (a or good):
        raise InvalidInput("two executions are needed: A and B, or B and the previous good run of its workflow")
    second = find_execution(pool, b)
    first = find_execution(pool, a) if a and not good else None
    if first == second:
        raise InvalidInput("A and B are the same execution: there is nothing to compare")
    return show_comparison(compare_stored(pool, first, second))


def _show(request: Request, reader: Principal, found: ShownComparison, only: str, window: int) -> Response:
    differing = only not in ("", "0", "false")
    steps = [(place, step) for place, step in enumerate(found.steps) if not differing or step.verdict != "same"]
    last = max(1, -(-len(steps) // WINDOW))
    window = min(window, last)
    going = [side.id for side in (found.a, found.b) if side.status not in ENDED]
    return page(
        request,
        "compare.html",
        reader=reader,
        found=found,
        steps=steps[(window - 1) * WINDOW : window * WINDOW],
        first=_first(found, steps),
        only=differing,
        window=window,
        last_window=last,
        windowed=WINDOW,
        topics=" ".join(f"execution:{UUID(one)}" for one in going),
        ended=ENDED,
        named=named,
        started=lambda one: moment(one.started_at and datetime.fromisoformat(one.started_at), "not started"),
        dollars=lambda cost: "no cost" if cost is None else money(_nanos(cost)),
        less=less,
        more_time=more_time,
        more_money=more_money,
        changed=show_change,
        shown_changes=SHOWN_CHANGES,
    )


def _first(found: ShownComparison, steps: list[tuple[int, Any]]) -> dict[str, int] | None:
    """Where in the table the first divergence is: its row and the window that holds it."""
    first = found.first_divergence
    for number, (place, step) in enumerate(steps):
        if first is not None and (step.name, step.iteration) == (first.step, first.iteration):
            return {"place": place, "window": number // WINDOW + 1}
    return None


def less(a: ShownSide | None, b: ShownSide | None, name: str) -> Any:
    """What B has more of than A; None where one of them does not say."""
    before, after = (None if side is None else getattr(side, name) for side in (a, b))
    return None if before is None or after is None else after - before


def more_time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "–"
    return "0" if milliseconds == 0 else f"{'+' if milliseconds > 0 else '−'}{span(abs(milliseconds))}"


def more_money(cost: float | None) -> str:
    if cost is None:
        return "–"
    nanos = _nanos(cost)
    return "0" if nanos == 0 else f"{'+' if nanos > 0 else '−'}{money(abs(nanos))}"


def _nanos(cost: float) -> int:
    return round(cost * 1e9)


def show_change(change: ShownChange) -> dict[str, Any]:
    """A change for the table: where, before and after as texts (None: not there), and whether one of them was cut."""
    before = None if change.kind == "added" else _text(change.before)
    after = None if change.kind == "removed" else _text(change.after)
    place = f"{change.origin} → {change.path}" if change.kind == "moved" else change.path
    cut = any(text is not None and text[1] for text in (before, after))
    return {"place": place, "before": before and before[0], "after": after and after[0], "cut": cut}


def _text(value: Any) -> tuple[str, bool]:
    """A value as JSON on one line, and whether that is not all of it."""
    if isinstance(value, dict) and value.get("truncated") is True and "beginning" in value:
        return f"{value['beginning'][:LONGEST_VALUE]}…", True
    text = json.dumps(value, ensure_ascii=False)
    return (text, False) if len(text) <= LONGEST_VALUE else (f"{text[:LONGEST_VALUE]}…", True)
