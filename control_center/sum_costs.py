"""`afu9 cost`: what was spent, by workflow, server, tool or day. From the daily sums alone, however many steps there were."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from control_center.source import Place, Row, place_options
from orchestrator.price import usd

KINDS = ("workflow", "server", "tool", "day")
MOST_DAYS = 999


@click.command("cost")
@click.option(
    "--days", default=30, show_default=True, type=click.IntRange(1, MOST_DAYS), help="UTC days, today included."
)
@click.option("--by", default="workflow", show_default=True, type=click.Choice(KINDS))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@place_options
def cost_command(days: int, by: str, as_json: bool, url: str, api_key_file: Path | None) -> int:
    """Sum up what calls cost: name, US dollars, calls, and those of them whose price is not known."""
    with Place(url, api_key_file).open() as source:
        rows = source.costs(days, by)
    told = cost_object(rows, days, by)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return 0
    if not rows:
        click.echo("nothing was counted: docs/cost.md tells how servers get prices", err=True)
    for one in told["costs"]:
        click.echo(f"{one['name'] or '-'}\t{one['costUsd']}\t{one['calls']}\t{one['unpricedCalls']}")
    total = told["total"]
    click.echo(f"{total['costUsd']} USD, {total['calls']} calls, {total['unpricedCalls']} unpriced", err=True)
    return 0


def cost_object(rows: Sequence[Row], days: int, by: str) -> dict[str, Any]:
    """{days, by, costs: [{name, costUsd, calls, unpricedCalls}], total}, amounts as decimal texts."""
    total = {key: sum(row[key] for row in rows) for key in ("cost_nanos", "calls", "unpriced_calls")}
    costs = [{"name": row["name"], **_sum(row)} for row in rows]
    return {"days": days, "by": by, "costs": costs, "total": _sum(total)}


def _sum(row: Row) -> dict[str, Any]:
    return {"costUsd": usd(row["cost_nanos"]), "calls": row["calls"], "unpricedCalls": row["unpriced_calls"]}
