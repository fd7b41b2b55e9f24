"""`afu9 ls`: recent executions. A table on a terminal, tab-separated in a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from control_center.progress import iso
from control_center.source import Place, Row, place_options
from control_center.timeline import glyph

STATUSES = ("pending", "running", "completed", "failed", "cancelled", "paused")


@click.command("ls")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
@click.option("--status", type=click.Choice(STATUSES))
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@place_options
def ls_command(limit: int, status: str | None, quiet: bool, as_json: bool, url: str, api_key_file: Path | None) -> int:
    """List recent executions, newest first."""
    with Place(url, api_key_file).open() as source:
        rows = source.recent(limit, status)
    if quiet:
        for row in rows:
            click.echo(row["id"])
    elif as_json:
        click.echo(json.dumps({"executions": [_object(row) for row in rows], "total": len(rows)}, ensure_ascii=False))
    elif not rows:
        click.echo("no executions yet: `afu9 run FILE` makes one", err=True)
    else:
        _print(rows)
    return 0


def _print(rows: Sequence[Row]) -> None:
    cells = [
        (
            f"{glyph(row['status'])} {row['status']}" if sys.stdout.isatty() else row["status"],
            str(row["id"]),
            row["title"] or "",
            iso(row["started_at"]) or "",
            row["triggered_by"] or "",
            " ".join((row["error"] or "").split()),
        )
        for row in rows
    ]
    if not sys.stdout.isatty():
        for line in cells:
            click.echo("\t".join(line))
        return
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    for line in cells:
        click.echo(
            "  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[5]]).rstrip()
        )


def _object(row: Row) -> dict[str, object]:
    return {
        "id": str(row["id"]),
        "title": row["title"],
        "status": row["status"],
        "startedAt": iso(row["started_at"]),
        "completedAt": iso(row["completed_at"]),
        "error": row["error"],
        "triggeredBy": row["triggered_by"],
    }
