"""Analytics: how much ended and how, how long it took, what fails and with which errors. From the rollups alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup

from control_center.dashboard.draw.bars import Bar, draw_bars
from control_center.dashboard.draw.sparkline import draw_sparkline
from control_center.dashboard.pages import Reader, page, root
from control_center.progress import iso
from control_center.read_stats import (
    WINDOWS,
    Stat,
    Window,
    find_window,
    read_errors,
    read_stats,
    read_throughput,
    searchable,
    total_of,
)

router = APIRouter(include_in_schema=False)
STATUSES = ("completed", "failed", "cancelled")
LATE = timedelta(minutes=20)  # nobody seems to count
MOST_STEPS = 20


@router.get("/ui/analytics")
def show_analytics(
    request: Request,
    reader: Reader,
    window: Literal["24h", "7d", "30d", "90d"] = "24h",
    workflow: Annotated[str | None, Query(max_length=255)] = None,
    region: str | None = None,  # noqa: ARG001  # `page` reads it
) -> Response:
    pool = request.app.state.read_pool
    span, chosen = find_window(pool, window), workflow or None
    workflows = read_stats(pool, span, "workflow", chosen)
    bars = read_stats(pool, span, "time", chosen)
    lines = read_throughput(pool, span, chosen)
    errors = read_errors(pool, span, chosen)
    return page(
        request,
        "analytics.html",
        reader=reader,
        window=span,
        windows=WINDOWS,
        workflow=chosen,
        total=total_of(workflows),
        bars=bars,
        chart=_chart(bars, span),
        workflows=workflows,
        sparks={name: _spark(name, line) for name, line in lines.items()},
        tools=read_stats(pool, span, "tool", chosen),
        slowest=read_stats(pool, span, "step", chosen, slowest=True, most=MOST_STEPS),
        errors=[{**error, "link": _like(request, span, chosen, error)} for error in errors],
        late=span.until is not None and span.read_at - span.until > LATE,
        statuses=STATUSES,
    )


def _chart(bars: Sequence[Stat], window: Window) -> Markup:
    drawn = [Bar(_told(bar), [(status, bar.counts[status]) for status in STATUSES]) for bar in bars]
    return draw_bars(
        drawn, f"Executions that ended, by status, in the last {window.name}; the table below has the numbers"
    )


def _told(bar: Stat) -> str:
    counts = ", ".join(f"{bar.counts[status]:,} {status}" for status in STATUSES if bar.counts[status])
    return f"{_short(bar.at)}: {counts or 'none'}"


def _short(at: datetime | None) -> str:
    return f"{at:%m-%d %H:%M} UTC" if at else ""


def _spark(name: str, line: Sequence[tuple[int, int]]) -> Markup:
    ended = [one[0] for one in line]
    label = f"{name or 'without a name'}: {sum(ended):,} ended, at most {max(ended, default=0):,} in a bar"
    return draw_sparkline(ended, [number for number, one in enumerate(line) if one[1]], label)


def _like(request: Request, window: Window, workflow: str | None, error: dict[str, Any]) -> str:
    """The failed executions that hold the longest part of the error which does not differ."""
    query = {"status": "failed", "q": searchable(error["shape"]), "since": iso(window.since), "workflow": workflow}
    return f"{root(request)}/ui/executions?" + urlencode({name: value for name, value in query.items() if value})
