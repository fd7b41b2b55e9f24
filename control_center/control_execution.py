"""What an operator does with an execution from the command line: pause, resume, cancel, retry, rerun, skip, set-output,
decide, fork, replay. `--dry-run` tells what it would do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from control_center.name_user import user_name
from control_center.progress import EXIT_CODES, follow, result_object
from control_center.read_files import read_document, read_input, read_value
from control_center.source import Control, Place, Row, Source, place_options
from control_center.timeline import render_execution
from persistence.errors import InvalidInput

Option = Callable[[Callable[..., Any]], Callable[..., Any]]

STEP = click.option("--step", "--from", help="A step, by its name or its index.")
NEEDED_STEP = click.option("--step", "--from", required=True, help="A step, by its name or its index.")
INPUT = click.option("--input", metavar="JSON|@FILE", help="Params instead of those of the definition.")
FORK_INPUT = click.option("--input", metavar="JSON|@FILE", help="The new execution's input, instead of this one's.")
OUTPUT = click.option("--output", metavar="JSON|@FILE", help="What the step is to have answered.")
NEEDED_OUTPUT = click.option("--output", required=True, metavar="JSON|@FILE", help="What the step is to have answered.")
VARIABLES = click.option("--set", "variables", multiple=True, metavar="NAME=JSON", help="Instead of what was assigned.")
DEFINITION = click.option("--definition", type=click.Path(path_type=Path), help="Another definition, from a file.")
WORKFLOW = click.option("--workflow", help="Another definition: a registered workflow's newest version.")
DECISION = click.argument("decision", type=click.Choice(["retry", "done", "skip", "fail"]))
WAIT = click.option(
    "--wait", "waiting", is_flag=True, help="Follow it until it rests; the exit code is its fate, as with run."
)


def _command(action: str, told: str, *options: Option) -> click.Command:
    """A command of one control; `options` are those beside what all of them have."""

    def body(
        execution: str,
        dry_run: bool,
        as_json: bool,
        url: str,
        api_key_file: Path | None,
        waiting: bool = False,
        **said: Any,
    ) -> int:
        control = Control(action, _given(said), user_name())
        with Place(url, api_key_file).open() as source:
            execution_id = source.find(execution)
            if dry_run:
                return _preview(source.preview(execution_id, control), as_json)
            if waiting:
                with source.working():
                    return _follow(source, source.carry_out(execution_id, control), as_json)
            _tell(source.carry_out(execution_id, control), as_json)
            return 0

    shared = [
        click.option("--reason", help="For people: it stands in the history."),
        click.option("--dry-run", is_flag=True, help="Change nothing; tell what it would do."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object."),
    ]
    made: Callable[..., Any] = place_options(body)
    ordered: list[Option] = [*options, *shared]
    for option in reversed(ordered):
        made = option(made)
    return click.command(action, help=told)(click.argument("execution")(made))


def _given(said: dict[str, Any]) -> dict[str, Any]:
    """What was said, as values."""
    given = {name: value for name, value in said.items() if value is not None and value != ()}
    for name in ("input", "output"):
        if name in given:
            given[name] = read_value(given[name], f"--{name}")
    if "variables" in given:
        given["variables"] = read_input(given["variables"])
    if "definition" in given:
        given["definition"] = read_document(given["definition"])
    if not isinstance(given.get("input", {}), dict):
        raise InvalidInput("--input must be an object")
    return given


def _tell(done: Row, as_json: bool) -> None:
    if as_json:
        shown = {"executionId": done["execution_id"], "action": done["action"], "status": done["status"]}
        click.echo(json.dumps({**shown, "allowedActions": done["allowed_actions"]}))
    else:
        click.echo(f"{done['execution_id']}\t{done['status']}")


def _follow(source: Source, done: Row, as_json: bool) -> int:
    execution_id = UUID(done["execution_id"])
    status = follow(source, execution_id, quiet=as_json)
    whole = source.whole(execution_id)
    if as_json:
        click.echo(json.dumps(result_object(whole.execution, whole.steps), ensure_ascii=False))
    else:
        for line in render_execution(whole.execution, whole.steps, whole.events):
            click.echo(line)
    return EXIT_CODES[status]


def _preview(found: Row, as_json: bool) -> int:
    if as_json:
        shown = {
            "dryRun": True,
            "executionId": found["execution_id"],
            "action": found["action"],
            "status": found["status"],
        }
        shown |= {"allowedActions": found["allowed_actions"]}
        told = {name: found[name] for name in ("reused", "replaced", "calls")}
        click.echo(json.dumps({**shown, **told}, ensure_ascii=False))
        return 0
    for line in render_preview(found):
        click.echo(line)
    return 0


def render_preview(found: Row) -> Iterator[str]:
    """Lines for people: what stays, what is replaced, what is called."""
    yield f"{found['action']} of {found['execution_id']}, which is {found['status']}: nothing was changed; it would"
    yield f"  reuse    {_steps(found['reused'])}"
    yield f"  replace  {_steps(found['replaced'])}"
    calls = found["calls"]
    yield f"  call     {f'{len(calls)} of the tools' if calls else 'nothing'}"
    steps = max([len(call["step"]) for call in calls], default=0)
    tools = max([len(call["tool"]) for call in calls], default=0)
    for call in calls:
        told = [EFFECTS[call["changes"]], *(["if its condition holds"] if call["conditional"] else [])]
        yield f"    {call['step']:<{steps}}  {call['tool']:<{tools}}  {', '.join(told)}"


EFFECTS = {True: "changes things", False: "reads only", None: "may change things: its server does not say"}
SHOWN = 10  # names; of more, how many


def _steps(names: list[str]) -> str:
    if not names:
        return "nothing"
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


pause_command = _command("pause", "Begin nothing more of EXECUTION until it is resumed; what runs may end.")
resume_command = _command("resume", "Let EXECUTION, which is paused, go on.", WAIT)
cancel_command = _command("cancel", "End EXECUTION now; workers are told to end its calls.")
retry_command = _command(
    "retry", "Let EXECUTION, which failed or was cancelled, go on with all results that there are.", STEP, INPUT, WAIT
)
rerun_command = _command(
    "rerun", "Run a step of EXECUTION again, and all that come after it.", NEEDED_STEP, INPUT, WAIT
)
skip_command = _command("skip", "Let a step of EXECUTION be skipped.", NEEDED_STEP, WAIT)
set_output_command = _command(
    "set-output", "Say what a step's output is, instead of calling its tool.", NEEDED_STEP, NEEDED_OUTPUT, WAIT
)
decide_command = _command(
    "decide",
    "Say what becomes of a step of EXECUTION whose outcome nobody knows: call it again (retry), take it as done with an "
    "output (done), go on without it (skip), or leave it failed (fail).",
    DECISION,
    NEEDED_STEP,
    OUTPUT,
    WAIT,
)
fork_command = _command(
    "fork",
    "Make a new execution of EXECUTION with the results before a step; without one, from the start.",
    STEP,
    FORK_INPUT,
    VARIABLES,
    DEFINITION,
    WORKFLOW,
    WAIT,
)
replay_command = _command(
    "replay",
    "Run one step of EXECUTION alone, as a new execution, with the variables as they are.",
    NEEDED_STEP,
    INPUT,
    WAIT,
)
