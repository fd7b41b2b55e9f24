"""What is not to be called for now: `afu9 hold KIND NAME`, `afu9 release KIND NAME`, `afu9 holds`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from control_center.name_user import user_name
from control_center.progress import iso
from control_center.source import Place, place_options

KIND = click.argument("kind", type=click.Choice(["workflow", "server", "tool"]))


@click.command("hold")
@KIND
@click.argument("name")
@click.option("--reason", help="For people.")
@place_options
def hold_command(kind: str, name: str, reason: str | None, url: str, api_key_file: Path | None) -> int:
    """Begin no new call of the tool NAME (SERVER.TOOL), of a server, or of a workflow's executions. Calls under way go on."""
    with Place(url, api_key_file).open() as source:
        new = source.hold(kind, name, user_name(), reason)
    click.echo(f"the {kind} {name} {'is held' if new else 'was held already'}", err=True)
    return 0


@click.command("release")
@KIND
@click.argument("name")
@place_options
def release_command(kind: str, name: str, url: str, api_key_file: Path | None) -> int:
    """Let the calls go on; prints how many steps waited."""
    with Place(url, api_key_file).open() as source:
        waiting = source.release(kind, name, user_name())
    click.echo(waiting)
    return 0


@click.command("holds")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@place_options
def holds_command(as_json: bool, url: str, api_key_file: Path | None) -> int:
    """List what is held, oldest first: kind, name, who, since when, why."""
    with Place(url, api_key_file).open() as source:
        rows = source.holds()
    if as_json:
        shown = [
            {
                "kind": row["kind"],
                "name": row["name"],
                "actor": row["actor"],
                "reason": row["reason"],
                "createdAt": iso(row["created_at"]),
            }
            for row in rows
        ]
        click.echo(json.dumps({"holds": shown, "total": len(rows)}, ensure_ascii=False))
        return 0
    for row in rows:
        told = [row["kind"], row["name"], row["actor"], iso(row["created_at"]) or "", row["reason"] or ""]
        click.echo("\t".join(told))
    return 0
