"""`afu9 archive` and `afu9 restore`: old executions move into files, and come back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import click

from control_center.name_user import user_name
from control_center.progress import iso
from control_center.services import open_services
from persistence.json_value import encode_json
from persistence.pool import open_pool, run
from persistence.settings import Settings

UNITS = {"h": 3600, "d": 86_400, "w": 604_800}


class Age(click.ParamType[float]):
    """90d, 12h, 8w: seconds."""

    name = "AGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,5})([hdw])", value)
        if not found:
            self.fail(f"{value!r} is not an age: write 90d, 12h or 8w", param, ctx)
        return float(int(found[1]) * UNITS[found[2]])


@click.command("archive")
@click.option("--older-than", type=Age(), required=True, help="Of how long ago they must have ended: 90d, 12h, 8w.")
@click.option(
    "--to", required=True, metavar="DIR|URL", help="A directory, or s3://, gs:// or az:// with a bucket and a prefix."
)
@click.option(
    "--rate",
    type=click.FloatRange(0.01, 1),
    default=0.1,
    show_default=True,
    help="The share of the time in which it works; it pauses for the rest.",
)
@click.option("--dry-run", is_flag=True, help="Only say how many it would be, and about how many bytes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def archive_command(older_than: float, to: str, rate: float, dry_run: bool, as_json: bool) -> int:
    """Move executions that ended long ago into files, with all that belongs to them."""
    from orchestrator.archive import archive, preview
    from persistence.archives.store import location_of

    place = location_of(to)
    with _database() as dsn:
        if dry_run:
            _show_preview(preview(dsn, older_than), as_json)
            return 0
        done = archive(dsn, place, older_than, share=rate, tell=_say)
        told = {
            "location": done.location,
            "olderThan": iso(done.older_than),
            "executions": done.executions,
            "kept": done.kept,
            "files": done.files,
            "bytes": done.bytes,
            "resumed": list(done.resumed),
        }
        if done.location or done.resumed:
            _audit(dsn, "executions.archive", done.location or done.resumed[-1], told)
    if as_json:
        click.echo(json.dumps(told))
        return 0
    for location in done.resumed:
        click.echo(f"finished what was interrupted: {location}", err=True)
    if done.location is None:
        click.echo("nothing to archive", err=True)
        return 0
    if done.kept:
        click.echo(f"{done.kept} executions changed meanwhile, and stayed", err=True)
    click.echo(f"{done.executions} executions archived", err=True)
    click.echo(done.location)
    return 0


@click.command("restore")
@click.argument("archive", metavar="FROM")
@click.option("--execution", type=click.UUID, help="This one alone.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def restore_command(archive: str, execution: UUID | None, as_json: bool) -> int:
    """Put the executions of an archive, FROM its directory or URL, back into the database."""
    from orchestrator.restore import restore
    from persistence.archives.store import location_of

    place = location_of(archive)
    with _database() as dsn:
        done = restore(dsn, place, execution, tell=_say)
        told = {
            "location": place,
            "executions": done.executions,
            "rows": done.rows,
            "there": done.there,
            "elsewhere": done.elsewhere,
        }
        if done.executions:
            _audit(dsn, "executions.restore", place, told)
    if as_json:
        click.echo(json.dumps(told))
        return 0
    if done.there:
        click.echo(f"{done.there} were there already, as they were archived", err=True)
    if done.elsewhere:
        click.echo(f"{done.elsewhere} were archived again since: `afu9 show ID` tells where", err=True)
    click.echo(f"{done.executions} executions restored, {done.rows} rows")
    return 0


def _show_preview(told: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**told, "olderThan": iso(told["olderThan"])}))
        return
    for month in told["months"]:
        click.echo(f"{month['month']}\t{month['executions']}\t{month['bytes']}")
    click.echo(
        f"at most {told['executions']} executions that ended before {iso(told['olderThan'])}, "
        f"about {told['bytes']} bytes in files",
        err=True,
    )


@contextmanager
def _database() -> Iterator[str]:
    with open_services(Settings.load(), start=False) as services:
        yield services.settings.database_dsn


def _audit(dsn: str, action: str, target: str, detail: Mapping[str, Any]) -> None:
    with open_pool(dsn) as pool:
        row = {
            "principal": f"cli:{user_name()}",
            "action": action,
            "target": target,
            "detail": encode_json(dict(detail)),
        }
        run(pool, "write_audit", row)


def _say(text: str) -> None:
    click.echo(text, err=True)
