"""One control of many executions from the command line: `afu9 bulk ACTION`, counted first, and `afu9 jobs`."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from control_center.make_job import BULK_ACTIONS, JOB_STATUSES
from control_center.name_user import user_name
from control_center.progress import EXIT_CODES, iso
from control_center.source import Chosen, Place, Row, Source, place_options
from persistence.errors import InvalidInput

SURE = 100  # executions; of more, the number has to be typed
LOOK = 0.5  # seconds between two looks at a job
STATUSES = ("pending", "running", "completed", "failed", "cancelled", "paused")


@click.command("bulk")
@click.argument("action", type=click.Choice(BULK_ACTIONS))
@click.argument("executions", nargs=-1, metavar="[ID]...")
@click.option("--status", multiple=True, type=click.Choice(STATUSES), help="Instead of ids; may be repeated.")
@click.option("--workflow", help="A registered workflow's name.")
@click.option("--triggered-by")
@click.option("--since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]), help="Created then or later, UTC.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]), help="Created before, UTC.")
@click.option("--label", multiple=True, metavar="NAME=VALUE", help="All of them must be there.")
@click.option("--reason", help="For people: it stands in the history.")
@click.option("--dry-run", is_flag=True, help="Count, and change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", "waiting", is_flag=True, help="Follow the job to its end.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@place_options
def bulk_command(
    action: str,
    executions: tuple[str, ...],
    reason: str | None,
    dry_run: bool,
    yes: bool,
    waiting: bool,
    as_json: bool,
    url: str,
    api_key_file: Path | None,
    **said: Any,
) -> int:
    """Pause, resume, cancel or retry the executions of these ids, or all that have something in common. Says how many, and
    asks; orchestrators do it as a job, whose id is printed. With --wait it ends with 7 if a control failed, with 8 if the job
    was cancelled."""
    with Place(url, api_key_file).open() as source:
        chosen = _chosen(source, action, executions, said)
        counted = source.count(chosen)
        if dry_run:
            _tell_count(counted, as_json)
            return 0
        if not yes:
            _ask(counted)
        job = source.control_many(chosen, user_name(), reason)
        if waiting:
            with source.working():
                job = _follow(source, UUID(str(job["id"])))
    _tell([job], as_json)
    return _fate(job) if waiting else 0


@click.command("jobs")
@click.argument("job", required=False)
@click.option("--cancel", is_flag=True, help="Do not do what is left of JOB; what was done stays done.")
@click.option("--reason", help="Of the cancellation, for people.")
@click.option("--wait", "waiting", is_flag=True, help="Follow JOB to its end.")
@click.option("--status", type=click.Choice(JOB_STATUSES), help="Of a list.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="Of a list.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@place_options
def jobs_command(
    job: str | None,
    cancel: bool,
    reason: str | None,
    waiting: bool,
    status: str | None,
    limit: int,
    as_json: bool,
    url: str,
    api_key_file: Path | None,
) -> int:
    """List the jobs that `afu9 bulk` and the API have made, newest first; or tell of one, follow it, cancel it."""
    with Place(url, api_key_file).open() as source:
        if job is None:
            if cancel or waiting:
                raise InvalidInput("say which job")
            _tell(list(source.jobs(limit, status)), as_json)
            return 0
        try:
            job_id = UUID(job)
        except ValueError:
            raise InvalidInput(f"{job!r} is not the id of a job: `afu9 jobs` lists them") from None
        found = source.cancel_job(job_id, user_name(), reason) if cancel else source.job(job_id)
        if waiting:
            with source.working():
                found = _follow(source, job_id)
    _tell([found], as_json)
    for fault in found["errors"]:
        click.echo(f"{fault['execution_id']}: {fault['error']}", err=True)
    return _fate(found) if waiting else 0


def _fate(job: Row) -> int:
    """The exit code of a job that was waited for. Executions that did not take the action are no failure."""
    return EXIT_CODES["failed" if job["status"] == "completed" and job["failed"] else str(job["status"])]


def _chosen(source: Source, action: str, executions: tuple[str, ...], said: dict[str, Any]) -> Chosen:
    common = {name: value for name, value in said.items() if value not in (None, ())}
    if bool(executions) == bool(common):
        raise InvalidInput("give ids, or something that the executions have in common, and not both")
    if executions:
        return Chosen(action, ids=[source.find(one) for one in executions])
    labels = {}
    for label in said["label"]:
        name, separator, value = label.partition("=")
        if not separator:
            raise InvalidInput(f"--label {label}: a label is written NAME=VALUE")
        labels[name] = value
    return Chosen(
        action,
        statuses=said["status"],
        workflow=said["workflow"],
        triggered_by=said["triggered_by"],
        since=_utc(said["since"]),
        until=_utc(said["until"]),
        labels=labels,
    )


def _utc(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(tzinfo=UTC)


def _ask(counted: Row) -> None:
    """Raises InvalidInput where nobody can answer, Abort for a no."""
    told = f"{counted['action']} {_number(counted)} executions; {counted['takes']} of them take it as they stand"
    if not sys.stdin.isatty():
        raise InvalidInput(f"{told}: say -y, for there is nobody to ask")
    if counted["more"] or counted["total"] > SURE:
        number = click.prompt(f"{told}. Type the number of executions", err=True)
        if number.strip() != str(counted["total"]):
            raise click.Abort
        return
    click.confirm(f"{told}. Go on?", abort=True, err=True)


def _number(counted: Row) -> str:
    return f"more than {counted['total']}" if counted["more"] else str(counted["total"])


def _tell_count(counted: Row, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"dryRun": True, **counted}))
    else:
        click.echo(f"{counted['action']}\t{_number(counted)}\t{counted['takes']}")


def _follow(source: Source, job_id: UUID) -> Row:
    before = None
    while True:
        job = source.job(job_id)
        now = (job["status"], job["done"], job["refused"])
        if now != before:
            click.echo(f"{job['status']}: {job['done']} done, {job['refused']} refused", err=True)
        if job["status"] in ("completed", "cancelled"):
            return job
        before = now
        time.sleep(LOOK)


def _tell(jobs: list[Row], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"jobs": [_object(job) for job in jobs], "total": len(jobs)}, ensure_ascii=False))
        return
    for job in jobs:
        told = [str(job["id"]), job["status"], job["action"], "?" if job["total"] is None else str(job["total"])]
        told += [str(job["done"]), str(job["refused"]), job["actor"], iso(job["created_at"]) or "", job["reason"] or ""]
        click.echo("\t".join(told))


def _object(job: Row) -> dict[str, Any]:
    shown = {
        "id": str(job["id"]),
        "action": job["action"],
        "status": job["status"],
        "total": job["total"],
        "done": job["done"],
        "refused": job["refused"],
        "failed": job["failed"],
        "actor": job["actor"],
        "reason": job["reason"],
        "cancelledBy": job["cancelled_by"],
        "cancelReason": job["cancel_reason"],
        "createdAt": iso(job["created_at"]),
        "updatedAt": iso(job["updated_at"]),
    }
    if errors := job.get("errors"):
        shown["errors"] = [{"executionId": str(one["execution_id"]), "error": one["error"]} for one in errors]
    return shown
