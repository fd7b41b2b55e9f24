"""`afu9 stats`: what ended in a window of time, how, how fast and with which errors. From the rollups alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import click

from control_center.progress import iso
from control_center.read_stats import WINDOWS, By, Stat, find_window, read_errors, read_stats
from control_center.source import Place, place_options
from persistence.pool import Pool

BY = ("workflow", "step", "tool", "server", "time")
COUNTS = ("completed", "failed", "cancelled", "skipped", "retried", "lost")


@click.command("stats")
@click.option("--window", default="24h", show_default=True, type=click.Choice(WINDOWS))
@click.option("--by", default="workflow", show_default=True, type=click.Choice(BY))
@click.option("--workflow", help="Of this one only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with the errors.")
@place_options
def stats_command(
    window: str, by: str, workflow: str | None, as_json: bool, url: str, api_key_file: Path | None
) -> int:
    """Tell what ended: name, ended, failed, cancelled or skipped, retried, success, p50 and p95 in ms."""
    with Place(url, api_key_file).open() as source:
        told = source.stats(window, by, workflow)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return 0
    for one in told["stats"]:
        name = f"{one['workflow']}/{one['name']}" if by == "step" else one["name"]
        counts = (one["endings"], one["failed"], one["cancelled"] + one["skipped"], one["retried"])
        figures = (*counts, _told(one["successRate"]), _told(one["p50Ms"]), _told(one["p95Ms"]))
        click.echo("\t".join([name or "-", *map(str, figures)]))
    until = told["until"]
    counted = f"counted until {until}" if until else "nothing is counted yet: an orchestrator does it"
    click.echo(f"{counted}; more at {told['nextAt']}", err=True)
    return 0


def _told(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:g}"


def stats_object(pool: Pool, name: str, by: str, workflow: str | None) -> dict[str, Any]:
    """As the API answers it: {window, by, since, until, nextAt, stats, errors}. Raises Afu9Error."""
    window = find_window(pool, name)
    return {
        "window": name,
        "by": by,
        "since": iso(window.since),
        "until": iso(window.until),
        "nextAt": iso(window.next_at),
        "stats": [_stat(one) for one in read_stats(pool, window, cast(By, by), workflow)],
        "errors": [_error(one) for one in read_errors(pool, window, workflow)],
    }


def _stat(one: Stat) -> dict[str, Any]:
    return {
        "name": one.name if one.at is None else iso(one.at),
        "workflow": one.workflow,
        "endings": one.endings,
        **{name: one.counts[name] for name in COUNTS},
        "successRate": None if one.success_rate is None else round(one.success_rate, 4),
        "meanMs": _whole(one.mean_ms),
        "p50Ms": _whole(one.quantile(0.5)),
        "p95Ms": _whole(one.quantile(0.95)),
    }


def _error(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "failures": row["failures"],
        "kind": row["kind"],
        "tool": row["tool"],
        "text": row["shape"],
        "workflows": row["workflows"],
        "firstSeen": iso(row["first_seen"]),
        "lastSeen": iso(row["last_seen"]),
        "example": str(row["example"]),
    }


def _whole(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds)
