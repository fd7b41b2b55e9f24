"""`afu9 watch ID` follows an execution until it rests; `afu9 logs ID` tells what its steps and their attempts did."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click

from control_center.progress import EXIT_CODES, changes, follow, in_ms, iso
from control_center.source import Place, Row, Whole, place_options
from control_center.timeline import render_execution


@click.command("watch")
@click.argument("execution")
@click.option("-q", "--quiet", is_flag=True, help="Nothing but the exit code.")
@place_options
def watch_command(execution: str, quiet: bool, url: str, api_key_file: Path | None) -> int:
    """Follow EXECUTION, an id or the beginning of one, until it rests; the exit code is its fate, as with run."""
    with Place(url, api_key_file).open() as source:
        execution_id = source.find(execution)
        status = follow(source, execution_id, quiet=quiet)
        if sys.stdout.isatty() and not quiet:
            whole = source.whole(execution_id)
            for line in render_execution(whole.execution, whole.steps, whole.events):
                click.echo(line)
    return EXIT_CODES[status]


@click.command("logs")
@click.argument("execution")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until it rests.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@place_options
def logs_command(execution: str, following: bool, as_json: bool, url: str, api_key_file: Path | None) -> int:
    """Tell what the steps of EXECUTION did, attempt by attempt: time, step, attempt, what, words; oldest first."""
    told: set[Entry] = set()
    with Place(url, api_key_file).open() as source:
        execution_id = source.find(execution)
        for _ in changes(source.progress(execution_id)) if following else [None]:
            for entry in entries(source.whole(execution_id)):
                if entry not in told:
                    told.add(entry)
                    click.echo(_written(entry, as_json))
    return 0


@dataclass(frozen=True, slots=True)
class Entry:
    """`step` and `attempt` are empty for what concerns the whole execution."""

    at: datetime
    step: str
    attempt: int
    what: str
    words: str


def entries(whole: Whole) -> list[Entry]:
    """In the order of time, and within a millisecond in that of cause. An event is left out whose attempt began after the
    steps were read: the next look has it, after what led to it."""
    found: list[Entry] = []
    for step in whole.steps:
        name = step["step_name"]
        if step["started_at"]:
            found.append(Entry(step["started_at"], name, 1, "started", step["tool"] or ""))
        mine = [event for event in whole.events if event["step_id"] == step["id"]]
        found += [_of_event(event, name) for event in mine if (event["attempt"] or 0) <= step["attempt"]]
        if step["completed_at"]:
            found.append(Entry(step["completed_at"], name, step["attempt"], step["status"], step["error"] or ""))
    found += [_of_event(event, "") for event in whole.events if event["step_id"] is None]
    execution = whole.execution
    if execution["completed_at"]:
        found.append(Entry(execution["completed_at"], "", 0, execution["status"], execution["error"] or ""))
    return sorted(found, key=lambda entry: in_ms(entry.at))


def _of_event(event: Row, step: str) -> Entry:
    words = [event["kind"], event["actor"], event["message"]]
    what = event["event"].removeprefix("attempt_")
    return Entry(event["created_at"], step, event["attempt"] or 0, what, ": ".join(word for word in words if word))


def _written(entry: Entry, as_json: bool) -> str:
    attempt = entry.attempt or None
    if as_json:
        shown = {"at": iso(entry.at), "step": entry.step or None, "attempt": attempt, "what": entry.what}
        return json.dumps({**shown, "words": entry.words or None}, ensure_ascii=False)
    return "\t".join([iso(entry.at) or "", entry.step, str(attempt or ""), entry.what, " ".join(entry.words.split())])
