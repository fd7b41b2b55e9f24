"""`afu9 reconstruct ID`: the state of an execution, now or as it was at a past moment."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from control_center.source import Place, place_options
from persistence.errors import InvalidInput


@click.command("reconstruct")
@click.argument("execution")
@click.option("--at", help="A moment, as 2026-11-27T10:30:00Z; without a zone it is UTC. Default: now.")
@place_options
def reconstruct_command(execution: str, at: str | None, url: str, api_key_file: Path | None) -> int:
    """Print an execution's state as one JSON object: status, input, context, and each step's status, output, duration and
    retries. Outputs are shown without what their keys tell to be secrets."""
    moment = None if at is None else _moment(at)
    with Place(url, api_key_file).open() as source:
        state = source.state(source.find(execution), moment)
    click.echo(json.dumps(state, ensure_ascii=False, indent=2))
    return 0


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"--at {text!r} is no time; write it as 2026-11-27T10:30:00Z") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
