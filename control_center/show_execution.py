"""`afu9 show ID`: an execution from its rows."""

from __future__ import annotations

import json

import click

from control_center.progress import iso, result_object
from control_center.services import open_services
from control_center.timeline import render_execution
from persistence.executions import find_execution, get_execution_steps, reconstruct_execution, require_execution
from persistence.pool import open_pool, run
from persistence.settings import Settings


@click.command("show")
@click.argument("execution")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, attempts included.")
@click.option("--state", is_flag=True, help="The reconstructed state: {executionId, status, input, context, steps}.")
def show_command(execution: str, as_json: bool, state: bool) -> int:
    """Show EXECUTION, an id or the beginning of one."""
    with open_services(Settings.load(), start=False) as services, open_pool(services.settings.database_dsn) as pool:
        execution_id = find_execution(pool, execution)
        events = run(pool, "get_execution_events", {"execution_id": execution_id})
        if state:
            click.echo(json.dumps(reconstruct_execution(pool, execution_id), ensure_ascii=False))
            return 0
        if as_json:
            attempts = [
                {
                    "stepId": str(event["step_id"]) if event["step_id"] else None,
                    "attempt": event["attempt"],
                    "event": event["event"],
                    "kind": event["kind"],
                    "message": event["message"],
                    "startedAt": iso(event["started_at"]),
                    "at": iso(event["created_at"]),
                }
                for event in events
            ]
            click.echo(json.dumps({**result_object(pool, execution_id), "events": attempts}, ensure_ascii=False))
            return 0
        row = require_execution(pool, execution_id)
        for line in render_execution(row, get_execution_steps(pool, execution_id), events):
            click.echo(line)
    return 0
