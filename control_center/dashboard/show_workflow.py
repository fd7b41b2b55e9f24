"""Workflow: how its newest runs went, step by step, what it is in each version, and what stands in its way now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup

from control_center.api import keep_workflows
from control_center.dashboard.compare_executions import show_change
from control_center.dashboard.draw.grid import Cell, Column, draw_grid
from control_center.dashboard.pages import Reader, go, must, page, root, why_not
from control_center.dashboard.span_attempts import ENDED
from control_center.dashboard.sum_up_runs import merge_names, sum_up, with_duration
from control_center.dashboard.words import span
from control_center.find_workflow import find_workflow
from control_center.show_comparison import _change, _cut
from orchestrator.difference import differences
from persistence.json_value import decode_json
from persistence.pool import Pool, run

router = APIRouter(prefix="/ui/workflows", include_in_schema=False)
RUNS = 25
VERSIONS = 50
WINDOW = 40  # steps of the grid at once
SHOWN_CHANGES = 50
Version = Annotated[int | None, Query(ge=1, lt=2**31)]
Row = Mapping[str, Any]


@router.get("/{name}")
def show_workflow(
    request: Request,
    reader: Reader,
    name: str,
    version: Version = None,
    against: Version = None,
    window: Annotated[int, Query(ge=1, le=1000)] = 1,
) -> Response:
    pool: Pool = request.app.state.read_pool
    shown = find_workflow(pool, name, version)
    versions = run(pool, "workflow_versions", {"name": name, "limit": VERSIONS})
    runs = [with_duration(one) for one in _runs(pool, versions)]
    last = max(1, -(-max((one["steps"] or 0 for one in runs), default=0) // WINDOW))
    window = min(window, last)
    steps = _steps(pool, runs, window)
    values: dict[str, Any] = {
        "name": name,
        "newest": versions[0],
        "runs": runs,
        "numbers": {one["id"]: one["version"] for one in versions},
        "overall": sum_up(runs),
        "grid": _grid(root(request), runs, steps),
        "names": _names(runs, steps),
        "sums": _sums(runs, steps),
        "window": window,
        "last_window": last,
        "windowed": WINDOW,
    }
    if request.query_params.get("region") != "runs":
        values |= _definition(pool, name, shown, versions, against)
    may_not = why_not(reader)
    if (may_run := why_not(reader, "submitter")) is None and not versions[0]["enabled"]:
        may_run = f"{name} is disabled: nothing of it is started"
    return page(request, "workflow.html", reader=reader, why_not=may_not, why_no_run=may_run, **values)


@router.post("/{name}/enable")
def enable(request: Request, reader: Reader, name: str) -> Response:
    must(reader, "operator")
    keep_workflows.enable_workflow(request, name, reader)
    return go(request, f"/ui/workflows/{name}")


@router.post("/{name}/disable")
def disable(request: Request, reader: Reader, name: str) -> Response:
    must(reader, "operator")
    keep_workflows.disable_workflow(request, name, reader)
    return go(request, f"/ui/workflows/{name}")


def _runs(pool: Pool, versions: Sequence[Row]) -> list[Any]:
    return list(run(pool, "workflow_runs", {"workflow_ids": [one["id"] for one in versions], "limit": RUNS}))


def _steps(pool: Pool, runs: Sequence[Row], window: int) -> dict[UUID, dict[str, Row]]:
    """The window's steps of all runs, by run and name: one statement."""
    first = (window - 1) * WINDOW
    wanted = {"ids": [one["id"] for one in runs], "first": first, "until": first + WINDOW}
    found: dict[UUID, dict[str, Row]] = {one["id"]: {} for one in runs}
    ended = {one["id"] for one in runs if one["status"] in ENDED}
    for step in run(pool, "workflow_run_steps", wanted) if runs else ():
        if step["status"] == "running" and step["execution_id"] in ended:  # what a worker still does no longer counts
            step["status"] = "cancelled"
        found[step["execution_id"]][step["step_name"]] = step
    return found


def _names(runs: Sequence[Row], steps: Mapping[UUID, Mapping[str, Row]]) -> list[str]:
    return merge_names([list(steps[one["id"]]) for one in runs])


def _sums(runs: Sequence[Row], steps: Mapping[UUID, Mapping[str, Row]]) -> list[dict[str, Any]]:
    """Of each step over the runs that are shown."""
    found = []
    for name in _names(runs, steps):
        own = [steps[one["id"]][name] for one in runs if name in steps[one["id"]]]
        found.append({"name": name, "tool": own[0]["tool"], "sum": sum_up(own)})
    return found


def _grid(before: str, runs: Sequence[Row], steps: Mapping[UUID, Mapping[str, Row]]) -> Markup:
    """The oldest run first, as time runs."""
    names = _names(runs, steps)
    columns = []
    for one in reversed(runs):
        href = f"{before}/ui/executions/{one['id']}"
        called = one["title"] or str(one["id"])
        told = f"{called}: {one['status']}, {span(one['duration_ms'], 'not ended')}"
        cells = [_cell(href, called, steps[one["id"]].get(name)) for name in names]
        columns.append(Column(Cell(one["status"], href, told), one["duration_ms"], cells))
    return draw_grid(columns, f"The newest {len(runs)} runs, the newest at the right: durations, and a row per step")


def _cell(href: str, called: str, step: Row | None) -> Cell | None:
    if step is None:
        return None
    sign, word = step["status"], step["status"]
    if step["reused"]:
        sign, word = "reused", "reused"
    elif step["error_kind"] == "outcome_unknown" and step["status"] == "failed":
        sign, word = "unknown", "outcome unknown"
    elif step["status"] == "completed" and step["retry_count"]:
        sign, word = "retried", f"completed after {step['retry_count'] + 1} attempts"
    took = f", {span(step['duration_ms'])}" if step["duration_ms"] is not None else ""
    error = f": {step['error']}" if step["error"] else ""
    return Cell(sign, f"{href}/steps/{step['step_index']}", f"{step['step_name']} of {called}: {word}{took}{error}")


def _definition(pool: Pool, name: str, shown: Row, versions: Sequence[Row], against: int | None) -> dict[str, Any]:
    """What it is in this version, in what that differs from another, and what stands in its way."""
    definition = decode_json(shown["definition"])
    older = [one["version"] for one in versions if one["version"] < shown["version"]]
    other = against or (older[0] if older else None)
    found = None
    if other is not None and other != shown["version"]:
        before = decode_json(find_workflow(pool, name, other)["definition"])
        found = differences(before, definition, SHOWN_CHANGES)
    wanted = {"tools": sorted({step["tool"] for step in definition["steps"]}), "since": shown["created_at"]}
    tools = run(pool, "tools_of_workflow", wanted)
    holds = {(one["kind"], one["name"]): one for one in run(pool, "list_holds")}
    return {
        "shown": shown,
        "definition": definition,
        "versions": versions,
        "other": other,
        "changes": [show_change(_change(_cut(one, "definition"))) for one in found.listed] if found else [],
        "more_changes": found.more if found else 0,
        "tools": tools,
        "held": holds.get(("workflow", name)),
        "holds": _holds_on(holds, wanted["tools"]),
    }


def _holds_on(holds: Mapping[tuple[str, str], Row], tools: Sequence[str]) -> list[Row]:
    """Those of the tools and of their servers."""
    servers = sorted({tool.partition(".")[0] for tool in tools})
    wanted = [("server", server) for server in servers] + [("tool", tool) for tool in tools]
    return [holds[one] for one in wanted if one in holds]
