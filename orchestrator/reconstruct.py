"""The state of an execution now or at a past moment, from its rows: the original's state object. Pure.

Nothing is erased: a result that a person had replaced is kept with the moment of its replacement, a failed attempt is an
event, and so is every control. So what was true then can be told from what is there now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from persistence.errors import NotFound

Row = Mapping[str, Any]
AFTER = {"pause": "paused", "resume": "running", "cancel": "cancelled"}
RERUNS = frozenset({"retry", "rerun", "skip", "set-output"})
TERMINAL = frozenset({"completed", "failed", "cancelled"})


def reconstruct(
    execution: Row, steps: Sequence[Row], results: Sequence[Row], events: Sequence[Row], at: datetime | None = None
) -> dict[str, Any]:
    """{executionId, status, input, context, steps: [{name, status, output, duration, retries}]}; duration in milliseconds.

    `results`: those that were replaced, oldest first. Raises NotFound for a moment before the execution was made.
    """
    if at is not None and at < execution["created_at"]:
        raise NotFound(
            f"execution {execution['id']} was made at {execution['created_at'].isoformat()}, after that moment"
        )
    then = [_step_then(step, results, events, at) for step in steps]
    return {
        "executionId": str(execution["id"]),
        "status": execution["status"] if at is None else _status_then(execution, events, at),
        "input": execution["input"],
        "context": _context_then(execution, steps, then),
        "steps": then,
    }


def _status_then(execution: Row, events: Sequence[Row], at: datetime) -> str:
    turns: list[tuple[datetime, str]] = [(execution["created_at"], "running")]
    for event in events:
        detail = event["detail"] or {}
        if event["event"] != "control":
            continue
        if "completed_at" in detail:
            turns.append((datetime.fromisoformat(detail["completed_at"]), detail["from"]))
        if event["kind"] in AFTER:
            turns.append((event["created_at"], AFTER[event["kind"]]))
        elif event["kind"] in RERUNS and detail.get("from") in TERMINAL:
            turns.append((event["created_at"], "running"))
    if execution["status"] in TERMINAL and execution["completed_at"] is not None:
        turns.append((execution["completed_at"], execution["status"]))
    past = [status for moment, status in sorted(turns, key=lambda turn: turn[0]) if moment <= at]
    return past[-1]


def _step_then(step: Row, results: Sequence[Row], events: Sequence[Row], at: datetime | None) -> dict[str, Any]:
    if at is None:
        return _shown(step["step_name"], step["status"], step["output"], step["duration_ms"], step["retry_count"])
    own = [kept for kept in results if kept["step_id"] == step["id"] and kept["replaced_at"] > at]
    held = own[0] if own else step
    failures = [event for event in events if event["step_id"] == step["id"] and event["event"] != "control"]
    if held["completed_at"] is not None and held["completed_at"] <= at:
        return _shown(step["step_name"], held["status"], held["output"], held["duration_ms"], held["retry_count"])
    attempts = [(event["started_at"], event["created_at"]) for event in failures]
    if step["claimed_at"] is not None:
        attempts.append((step["claimed_at"], step["completed_at"]))
    if own and held["started_at"] is not None and len(attempts) <= 1:
        attempts.append((held["started_at"], held["completed_at"]))
    runs = any(begun is not None and begun <= at and (ended is None or at < ended) for begun, ended in attempts)
    retries = sum(event["created_at"] <= at and event["event"] != "attempt_released" for event in failures)
    return _shown(step["step_name"], "running" if runs else "pending", None, None, min(retries, held["retry_count"]))


def _context_then(execution: Row, steps: Sequence[Row], then: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    context = dict(execution["context"] or {})
    assigned = {step["assign"] for step in steps if step.get("assign") is not None}
    variables = {name: value for name, value in (context.get("variables") or {}).items() if name not in assigned}
    variables |= {
        step["assign"]: state["output"]
        for step, state in zip(steps, then, strict=True)
        if step.get("assign") is not None and state["status"] == "completed"
    }
    return {**context, "variables": variables}


def _shown(name: str, status: str, output: Any, duration: int | None, retries: int) -> dict[str, Any]:
    return {"name": name, "status": status, "output": output, "duration": duration, "retries": retries}
