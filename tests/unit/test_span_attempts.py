"""Rows of steps and events as spans of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from control_center.dashboard.draw.timeline import Span
from control_center.dashboard.span_attempts import span_attempts, time_waits

BEGIN = datetime(2026, 3, 29, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def execution(status: str = "running", end: float | None = None) -> dict[str, Any]:
    return {
        "status": status,
        "created_at": BEGIN,
        "started_at": BEGIN,
        "completed_at": None if end is None else at(end),
        "now": at(100),
    }


def step(index: int = 0, status: str = "completed", **columns: Any) -> dict[str, Any]:
    return {
        "id": f"step-{index}",
        "step_index": index,
        "status": status,
        "successors": [],
        "reused_from": None,
        "started_at": None,
        "claimed_at": None,
        "completed_at": None,
        "attempt": 1,
        **columns,
    }


def event(attempt: int, start: float, end: float, kind: str = "attempt_failed") -> dict[str, Any]:
    return {"event": kind, "step_id": "step-0", "attempt": attempt, "started_at": at(start), "created_at": at(end)}


def told(spans: list[Span]) -> list[tuple[str, float, float | None]]:
    """Kind, begin and end in seconds."""
    return [
        (one.kind, (one.start - BEGIN).total_seconds(), None if one.end is None else (one.end - BEGIN).total_seconds())
        for one in sorted(spans, key=lambda one: (one.start, one.kind))
    ]


def test_the_wait_and_the_run_are_told_apart() -> None:
    ran = step(started_at=at(2), claimed_at=at(2), completed_at=at(5))
    found = span_attempts(execution("completed", 5), [ran], [ran], [], [])
    assert told(found[0]) == [("wait", 0, 2), ("run", 2, 5)]
    assert time_waits(found, at(100)) == {0: 2000}


def test_a_step_waits_from_the_end_of_the_last_before_it() -> None:
    steps = [
        step(0, successors=[2], started_at=at(0), claimed_at=at(0), completed_at=at(3)),
        step(1, successors=[2], started_at=at(0), claimed_at=at(0), completed_at=at(7)),
        step(2, started_at=at(8), claimed_at=at(8), completed_at=at(9)),
    ]
    assert told(span_attempts(execution("completed", 9), steps, steps, [], [])[2]) == [("wait", 7, 8), ("run", 8, 9)]


def test_all_attempts_and_the_pauses_between_them_are_there() -> None:
    tried = step(status="failed", attempt=3, started_at=at(0), claimed_at=at(9), completed_at=at(10))
    events = [event(1, 0, 1), event(2, 3, 4, "attempt_lost")]
    assert told(span_attempts(execution("failed", 10), [tried], [tried], events, [])[0]) == [
        ("failed", 0, 1),
        ("backoff", 1, 3),
        ("lost", 3, 4),
        ("backoff", 4, 9),
        ("failed", 9, 10),
    ]


def test_what_waits_for_its_next_attempt_and_what_runs_have_no_end() -> None:
    waiting = step(status="pending", started_at=at(0), claimed_at=at(0))
    assert told(span_attempts(execution(), [waiting], [waiting], [event(1, 0, 1)], [])[0])[-1] == ("backoff", 1, None)
    running = step(status="running", started_at=at(0), claimed_at=at(0))
    assert told(span_attempts(execution(), [running], [running], [], [])[0]) == [("run", 0, None)]
    assert told(
        span_attempts(execution(), [step(status="pending", attempt=0)], [step(status="pending", attempt=0)], [], [])[0]
    ) == [("wait", 0, None)]


def test_nothing_goes_on_after_the_end() -> None:
    """Also what a worker still does, and what was never reached."""
    steps = [
        step(0, status="running", successors=[1], started_at=at(0), claimed_at=at(0)),
        step(1, status="pending", attempt=0),
    ]
    found = span_attempts(execution("cancelled", 4), steps, steps, [], [])
    assert told(found[0]) == [("released", 0, 4)]
    assert found[1] == []


def test_a_replaced_result_is_shown_beside_the_new_one() -> None:
    again = step(attempt=2, started_at=at(52), claimed_at=at(52), completed_at=at(53))
    old = {
        "step_index": 0,
        "status": "failed",
        "duration_ms": 1000,
        "started_at": at(0),
        "completed_at": at(1),
        "replaced_at": at(50),
    }
    found = span_attempts(execution("completed", 53), [again], [again], [event(1, 0, 1)], [old])[0]
    assert ("replaced", 0, 1) in told(found)
    assert ("wait", 50, 52) in told(found)
    assert told(found)[-1] == ("run", 52, 53)


def test_a_reused_result_takes_no_time_here() -> None:
    steps = [
        step(0, successors=[1], reused_from="another", started_at=at(-900), claimed_at=at(-900), completed_at=at(-899)),
        step(1, started_at=at(1), claimed_at=at(1), completed_at=at(2)),
    ]
    found = span_attempts(execution("completed", 2), steps, steps, [], [])
    assert found[0] == []
    assert told(found[1]) == [("wait", 0, 1), ("run", 1, 2)]


def test_a_step_recorded_by_its_caller_is_a_bar_too() -> None:
    """Its attempts are not counted, and its end may be all that is known of it."""
    by_hand = step(attempt=0, started_at=at(1), completed_at=at(2))
    assert told(span_attempts(execution("completed", 2), [by_hand], [by_hand], [], [])[0]) == [
        ("wait", 0, 1),
        ("run", 1, 2),
    ]
