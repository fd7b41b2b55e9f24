"""What calls cost: by day as bars, by what one asks for as a table; the dearest executions, and budgets that were reached."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup
from psycopg.rows import DictRow

from control_center.api.read_costs import Kind
from control_center.dashboard.draw.bars import Bar, draw_bars, draw_share
from control_center.dashboard.pages import Reader, page
from control_center.read_stats import find_days, read_errors
from control_center.sum_costs import KINDS
from orchestrator.price import COST_LIMIT, usd
from persistence.pool import run

router = APIRouter(include_in_schema=False)
WINDOWS = ("7d", "30d", "90d", "365d")
MOST_DEAR = 20
MOST_NAMES = 200


@router.get("/ui/costs")
def show_costs(
    request: Request,
    reader: Reader,
    window: Annotated[str, Query(pattern=r"^[1-9][0-9]{0,2}d$")] = "30d",
    by: Kind = "workflow",
    region: str | None = None,  # noqa: ARG001  # `page` reads it
) -> Response:
    pool = request.app.state.read_pool
    days = int(window[:-1])
    span = find_days(pool, days)
    by_day = run(pool, "sum_costs", {"days": days, "by": "day"})
    rows = by_day if by == "day" else run(pool, "sum_costs", {"days": days, "by": by})
    total = {name: sum(row[name] for row in by_day) for name in ("cost_nanos", "calls", "unpriced_calls")}
    every_day = _every_day(by_day, days, span.read_at)
    return page(
        request,
        "costs.html",
        reader=reader,
        window=window,
        windows=WINDOWS if window in WINDOWS else (*WINDOWS, window),
        by=by,
        kinds=KINDS,
        days=every_day,
        chart=_chart(every_day),
        rows=[row | {"share": _share(row, total)} for row in rows[:MOST_NAMES]],
        more=max(len(rows) - MOST_NAMES, 0),
        total=total,
        dearest=run(pool, "dearest_executions", {"days": days, "limit": MOST_DEAR}),
        refused=read_errors(pool, span, kind=COST_LIMIT),
        counted_until=span.until,
    )


def _every_day(rows: Sequence[DictRow], days: int, now: datetime) -> list[dict[str, Any]]:
    """Also those on which nothing was spent, the oldest first."""
    found = {row["name"]: row["cost_nanos"] for row in rows}
    today = now.astimezone(UTC).date()
    names = [(today - timedelta(days=back)).isoformat() for back in range(days - 1, -1, -1)]
    return [{"name": name, "cost_nanos": found.get(name, 0)} for name in names]


def _chart(days: Sequence[dict[str, Any]]) -> Markup:
    bars = [Bar(f"{day['name']}: ${usd(day['cost_nanos'])}", [("spent", day["cost_nanos"])]) for day in days]
    return draw_bars(bars, "Dollars spent on each UTC day; the table by day has the numbers")


def _share(row: DictRow, total: dict[str, int]) -> Markup:
    share = row["cost_nanos"] / total["cost_nanos"] if total["cost_nanos"] else 0
    return draw_share(share, "spent", f"{share * 100:.1f} % of all")
