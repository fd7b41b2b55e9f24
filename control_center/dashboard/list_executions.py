"""Executions: what runs and what came of it, newest first, by what one looks for.

Invariant: the page costs the same with a thousand executions and with a million. Nothing is counted that an index does not
count, and never further than COUNTED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from control_center.api.read_executions import STATUSES
from control_center.dashboard.filter_executions import (
    SIZES,
    UNDECIDED,
    WINDOW_WORDS,
    Wanted,
    chips,
    find,
    find_undecided,
    forced_window,
    query_of,
)
from control_center.dashboard.pages import Reader, go, page, why_not
from persistence.errors import InvalidInput, NotFound
from persistence.executions import find_execution
from persistence.pool import Pool, run

router = APIRouter(include_in_schema=False)
COUNTED = 1000
STEPS = 500  # of an execution: of more, only how many they are
NAMES = 200  # of workflows, to choose from
ID = 8  # digits: less is a text
BULK = (("retry", "Retry…"), ("cancel", "Cancel…"), ("pause", "Pause…"), ("resume", "Resume…"))


@dataclass(frozen=True, slots=True)
class Count:
    """How many of a kind, and the query that lists them."""

    status: str
    number: str
    words: str
    query: str


@router.get("/")
def begin(request: Request) -> Response:
    return go(request, "/ui/executions")


@router.get("/ui/executions")
def list_executions(request: Request, reader: Reader, wanted: Annotated[Wanted, Query()]) -> Response:
    pool: Pool = request.app.state.read_pool
    if wanted.region is None and (there := _named(pool, wanted.q)):
        return go(request, f"/ui/executions/{there}")
    now = datetime.now(UTC)
    listed = find(pool, wanted, now)
    query = query_of(wanted)
    said = f"{query}&" if query else ""
    return page(
        request,
        "executions.html",
        reader=reader,
        rows=_with_progress(pool, listed.rows, now),
        counts=_counts(pool),
        older=f"{said}cursor={listed.older}" if listed.older else None,
        newer=f"{said}cursor={listed.newer}&to=newer" if listed.newer else None,
        wanted=wanted,
        query=query,
        chips=chips(wanted),
        forced=forced_window(wanted),
        cut=UNDECIDED if listed.cut else None,
        wider=query_of(wanted, window="7d"),
        statuses=STATUSES,
        windows=WINDOW_WORDS,
        sizes=SIZES,
        workflows=[row["name"] for row in run(pool, "list_workflows", {"after": None, "limit": NAMES})],
        bulk=BULK,
        why_not=why_not(reader, "operator"),
    )


def _named(pool: Pool, text: str | None) -> str | None:
    """The execution whose id, or the beginning of it, was typed."""
    if text is None or len(text.strip()) < ID:
        return None
    try:
        return str(find_execution(pool, text.strip()))
    except (InvalidInput, NotFound):
        return None


def _with_progress(pool: Pool, rows: Sequence[Mapping[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """Each row with its steps and how long it took, in ms; `ticks`: it goes on."""
    if not rows:
        return []
    counted = run(pool, "count_steps", {"ids": [row["id"] for row in rows], "limit": STEPS})
    steps = {row["id"]: row for row in counted}
    found = []
    for row in rows:
        begun, ended = row["started_at"], row["completed_at"]
        ticks = row["status"] == "running" and begun is not None
        lasted = ((ended or now) - begun).total_seconds() * 1000 if begun and (ended or ticks) else None
        found.append({**row, **steps[row["id"]], "lasted": lasted, "ticks": ticks})
    return found


def _counts(pool: Pool) -> list[Count]:
    (row,) = run(pool, "count_live", {"limit": COUNTED + 1})
    row["undecided"] = len(find_undecided(pool, COUNTED + 1))
    kinds = (
        ("pending", "pending", "status=pending"),
        ("running", "running", "status=running"),
        ("paused", "paused", "status=paused"),
        ("undecided", "needs a decision" if row["undecided"] == 1 else "need a decision", "needs=decision"),
        ("failed", "failed (24 h)", "status=failed&window=24h"),
    )
    return [Count(name, _capped(row[name]), words, query) for name, words, query in kinds]


def _capped(count: int) -> str:
    return f"{count:,}" if count <= COUNTED else f"{COUNTED:,}+"
