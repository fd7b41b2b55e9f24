"""Execution: what failed and why, what ran when, what it was given and what came of it, and what can be done now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup

from control_center.api import shapes
from control_center.api.auth import Principal
from control_center.api.problems import Problem
from control_center.dashboard.draw.graph import Node, draw_graph
from control_center.dashboard.draw.timeline import Span, draw_axis, draw_bar, make_scale
from control_center.dashboard.pages import HEADERS, Reader, page, root
from control_center.dashboard.span_attempts import ENDED, span_attempts, time_waits
from control_center.dashboard.words import json_text
from orchestrator.control import Controller, Preview, Wish
from orchestrator.judge_control import ACTIONS
from persistence.errors import InvalidDefinition, InvalidInput, NotFound, Refused
from persistence.executions import get_execution_steps, missing, require_execution
from persistence.pool import Pool, run

router = APIRouter(prefix="/ui/executions", include_in_schema=False)
Tab = Literal["timeline", "steps", "graph", "history", "data", "cost", "json"]
TABS = get_args(Tab)
WINDOW = 1000  # rows of a picture or table at once
GRAPH = 200  # steps that a graph still tells something of
SHOWN_FAILURES = 3
LABELS = {
    "pause": "Pause",
    "resume": "Resume",
    "cancel": "Cancel…",
    "retry": "Retry…",
    "rerun": "Rerun from a step…",
    "skip": "Skip a step…",
    "set-output": "Set an output…",
    "decide": "Decide…",
    "fork": "Fork with edits…",
    "replay": "Replay a step…",
}
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Offered:
    """An action; `why_not` in words if it is not possible now."""

    action: str
    label: str
    why_not: str | None


def read_execution(pool: Pool, execution_id: UUID) -> tuple[Row, Sequence[Row]]:
    """An execution and its steps without payloads, of one reading. Raises NotFound."""
    rows = run(pool, "page_execution", {"id": execution_id})
    if not rows:
        raise missing(pool, str(execution_id))
    execution = {name.removeprefix("e_"): value for name, value in rows[0].items() if name.startswith("e_")}
    steps: list[Row] = [row for row in rows if row["id"] is not None]
    if execution["status"] in ENDED:  # what a worker still does for it no longer counts
        steps = [{**row, "status": "cancelled"} if row["status"] == "running" else row for row in steps]
    return execution, steps


def offer(execution: Row, steps: Sequence[Row], reader: Principal) -> list[Offered]:
    """Every action, whether or not it is possible."""
    undecided = any(step["status"] == "failed" and step["error_kind"] == "outcome_unknown" for step in steps)
    offered = []
    for action, statuses in ACTIONS.items():
        why = None
        if not reader.may("operator"):
            why = f"it needs the role operator, and {reader.name} has {reader.role}"
        elif execution["definition_hash"] is None:
            why = "the execution is kept by its caller, who alone moves it"
        elif execution["status"] not in statuses:
            why = f"the execution is {execution['status']}; it would have to be {' or '.join(sorted(statuses))}"
        elif action == "decide" and not undecided:
            why = "no step's outcome is unknown"
        offered.append(Offered(action, LABELS[action], why))
    return offered


@router.get("/{execution_id}")
def show_execution(
    request: Request,
    reader: Reader,
    execution_id: UUID,
    tab: Tab = "timeline",
    window: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    pool: Pool = request.app.state.read_pool
    execution, steps = read_execution(pool, execution_id)
    key = {"execution_id": execution_id}
    events = run(pool, "get_execution_events", key)
    replaced = run(pool, "replaced_spans", key) if tab in ("timeline", "steps", "history") else []
    last = max(1, -(-len(steps) // WINDOW))
    window = min(window, last)
    shown = steps[(window - 1) * WINDOW : window * WINDOW]
    spans = span_attempts(execution, steps, shown, events, replaced) if tab in ("timeline", "steps") else {}
    return page(
        request,
        "execution.html",
        reader=reader,
        execution=execution,
        steps=steps,
        shown=shown,
        events=events,
        replaced=replaced,
        names={step["step_index"]: step["step_name"] for step in steps},
        by_id={step["id"]: step for step in steps},
        counts=_counts(steps),
        failures=_failures(pool, execution, steps, events),
        retry=_preview(request, execution) if execution["status"] in ("failed", "cancelled") else None,
        offered=offer(execution, steps, reader),
        relatives=run(pool, "execution_relatives", {"id": execution_id})[0],
        picture=_picture(execution, shown, spans) if tab == "timeline" else None,
        waits=time_waits(spans, execution["now"]),
        graph=_graph(f"{root(request)}/ui/executions/{execution_id}", steps) if tab == "graph" else None,
        payloads=_payloads(pool, execution_id) if tab == "data" else None,
        tools=_tools(steps) if tab == "cost" else None,
        state=_detail(pool, execution_id) if tab == "json" else None,
        tab=tab,
        tabs=TABS,
        window=window,
        last_window=last,
        first_row=(window - 1) * WINDOW + 1,
    )


@router.get("/{execution_id}/steps/{index}")
def show_step(request: Request, reader: Reader, execution_id: UUID, index: int) -> Response:
    pool: Pool = request.app.state.read_pool
    execution, steps = read_execution(pool, execution_id)
    rows = run(pool, "get_step", {"execution_id": execution_id, "index": index}) if 0 <= index < 2**31 else []
    if not rows:
        raise NotFound(f"the execution has no step {index}; its steps are 0 to {len(steps) - 1}")
    step = {**rows[0], "status": steps[index]["status"]} if index < len(steps) else rows[0]
    key = {"execution_id": execution_id}
    return page(
        request,
        "step.html",
        reader=reader,
        execution=execution,
        step=step,
        index=index,
        count=len(steps),
        attempts=[one for one in run(pool, "get_execution_events", key) if one["step_id"] == step["id"]],
        replaced=[one for one in run(pool, "step_results", key) if one["step_index"] == index],
        offered=[one for one in offer(execution, steps, reader) if one.action in OF_STEP],
    )


OF_STEP = ("retry", "rerun", "skip", "set-output", "decide", "fork", "replay")


@router.get("/{execution_id}/download/{what}")
def download(
    request: Request,
    _reader: Reader,
    execution_id: UUID,
    what: Literal["input", "output", "context", "all", "step-input", "step-output"],
    index: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> Response:
    """A payload whole, without secrets, as a file."""
    pool: Pool = request.app.state.read_pool
    name = what
    if what in ("step-input", "step-output"):
        rows = run(pool, "get_step", {"execution_id": execution_id, "index": index})
        if not rows:
            raise Problem("not-found", f"the execution has no step {index}")
        value, name = rows[0][what.removeprefix("step-")], f"{what}-{index}"  # type: ignore[assignment]
    elif what == "all":
        value = _detail(pool, execution_id)
    else:
        value = require_execution(pool, execution_id)[what]
    disposition = {"Content-Disposition": f'attachment; filename="{execution_id}-{name}.json"'}
    return Response(json_text(value) + "\n", headers=HEADERS | disposition, media_type="application/json")


def _counts(steps: Sequence[Row]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for step in steps:
        counts[step["status"]] = counts.get(step["status"], 0) + 1
    return counts


def _failures(pool: Pool, execution: Row, steps: Sequence[Row], events: Sequence[Row]) -> list[dict[str, Any]]:
    """The first failed steps with what they were sent and their attempts; how many there are is told by the counts."""
    found = []
    for step in [one for one in steps if one["status"] == "failed"][:SHOWN_FAILURES]:
        rows = run(pool, "get_step", {"execution_id": execution["id"], "index": step["step_index"]})
        attempts = [one for one in events if one["step_id"] == step["id"]]
        found.append({"step": step, "input": rows[0]["input"] if rows else None, "attempts": attempts[-5:]})
    return found


def _preview(request: Request, execution: Row) -> Preview | None:
    """What `retry` would do."""
    controller: Controller = request.app.state.controller
    try:
        return controller.preview(execution["id"], Wish(action="retry", actor=""))
    except (Refused, InvalidInput, InvalidDefinition, NotFound):
        return None  # the buttons say why


def _picture(execution: Row, shown: Sequence[Row], spans: Mapping[int, Sequence[Span]]) -> dict[str, Any]:
    live = execution["status"] == "running"
    scale = make_scale([one for step in shown for one in spans[step["step_index"]]], execution["now"], live=live)
    bars = {step["step_index"]: draw_bar(spans[step["step_index"]], scale) for step in shown}
    return {"axis": draw_axis(scale), "bars": bars}


def _graph(base: str, steps: Sequence[Row]) -> Markup | None:
    """None if it would tell nothing: no step follows another, or there are too many."""
    if len(steps) > GRAPH or not any(step["successors"] for step in steps):
        return None
    return draw_graph(
        [
            Node(
                step["step_index"],
                step["step_name"],
                step["status"],
                "reused" if step["reused_from"] else step["status"],
                f"{base}/steps/{step['step_index']}",
                tuple(step["successors"]),
            )
            for step in steps
        ]
    )


def _payloads(pool: Pool, execution_id: UUID) -> dict[str, Any]:
    row = require_execution(pool, execution_id)
    return {name: row[name] for name in ("input", "output", "context")}


def _tools(steps: Sequence[Row]) -> list[dict[str, Any]]:
    """What the steps of each tool cost, the dearest first."""
    found: dict[str, dict[str, Any]] = {}
    for step in steps:
        one = found.setdefault(
            step["tool"] or "–", {"tool": step["tool"] or "–", "steps": 0, "cost": None, "unpriced": 0}
        )
        one["steps"] += 1
        one["unpriced"] += step["unpriced_calls"] or 0
        if step["cost_nanos"] is not None:
            one["cost"] = (one["cost"] or 0) + step["cost_nanos"]
    return sorted(found.values(), key=lambda one: -(one["cost"] or 0))


def _detail(pool: Pool, execution_id: UUID) -> Any:
    row = require_execution(pool, execution_id)
    whole = shapes.execution_detail(row, get_execution_steps(pool, execution_id), frozenset())
    return json.loads(whole.model_dump_json(by_alias=True))
