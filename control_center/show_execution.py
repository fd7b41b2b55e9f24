"""`afu9 show ID`: an execution from its rows."""

from __future__ import annotations

import json
from pathlib import Path

import click

from control_center.progress import event_objects, result_object, result_objects
from control_center.source import Place, place_options
from control_center.timeline import render_execution
from persistence.executions import execution_state


@click.command("show")
@click.argument("execution")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with attempts, controls and replaced results.")
@click.option("--state", is_flag=True, help="The reconstructed state: {executionId, status, input, context, steps}.")
@place_options
def show_command(execution: str, as_json: bool, state: bool, url: str, api_key_file: Path | None) -> int:
    """Show EXECUTION, an id or the beginning of one."""
    with Place(url, api_key_file).open() as source:
        execution_id = source.find(execution)
        whole = source.whole(execution_id)
        replaced = [] if state else source.results(execution_id)
    if state:
        click.echo(json.dumps(execution_state(whole.execution, whole.steps), ensure_ascii=False))
    elif as_json:
        told = {"events": event_objects(whole.events), "results": result_objects(replaced)}
        click.echo(json.dumps({**result_object(whole.execution, whole.steps), **told}, ensure_ascii=False))
    else:
        for line in render_execution(whole.execution, whole.steps, whole.events, replaced):
            click.echo(line)
    return 0
