"""`afu9 run`: validate, submit, follow, report. The exit code is the execution's fate."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from control_center.name_user import user_name
from control_center.progress import EXIT_CODES, cost_keys, follow, result_object
from control_center.read_files import read_document, read_input, read_object
from control_center.source import Place, Wish, place_options
from control_center.timeline import render_execution
from persistence.errors import InvalidInput
from persistence.settings import Settings


@click.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="Input; @FILE takes an object.")
@click.option("--context", "context_file", type=click.Path(path_type=Path), help="Initial context: JSON or YAML.")
@click.option("--mcp-config", type=click.Path(path_type=Path), help="mcpServers file; default AFU9_MCP_CONFIG.")
@click.option("--title", help="A label for people.")
@click.option("--idempotency-key", help="A second run with this key follows the first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, and nothing else.")
@click.option("--no-persistence", is_flag=True, help="Run in memory: no database, no API, nothing is kept.")
@place_options
def run_command(
    file: Path,
    pairs: tuple[str, ...],
    context_file: Path | None,
    mcp_config: Path | None,
    title: str | None,
    idempotency_key: str | None,
    as_json: bool,
    no_persistence: bool,
    url: str,
    api_key_file: Path | None,
) -> int:
    """Run the workflow in FILE and wait for its end."""
    place = Place(url, api_key_file)
    context = read_object(context_file, "context") if context_file else {}
    for key in ("input", "variables"):
        if not isinstance(context.get(key, {}), dict):
            raise InvalidInput(f"{context_file}: `{key}` of the context must be an object")
    wish = Wish(
        definition=read_document(file),
        input=context.get("input", {}) | read_input(pairs),
        context=context,
        title=title,
        triggered_by=user_name(),
        idempotency_key=idempotency_key,
    )
    if no_persistence:
        return _run_in_memory(wish, mcp_config)
    with place.open(start=True, mcp_config=mcp_config) as source, source.started(wish) as execution_id:
        if not as_json and sys.stdout.isatty():
            click.echo(f"execution {execution_id}", err=True)
        status = follow(source, execution_id, quiet=as_json)
        whole = source.whole(execution_id)
        if as_json or not sys.stdout.isatty():
            click.echo(json.dumps(result_object(whole.execution, whole.steps), ensure_ascii=False))
        else:
            for line in render_execution(whole.execution, whole.steps, whole.events):
                click.echo(line)
        return EXIT_CODES[status]


def _run_in_memory(wish: Wish, mcp_config: Path | None) -> int:
    from control_center.check_wish import check_wish
    from workers.engine import WorkflowEngine
    from workers.mcp_client import McpClient

    settings = Settings.load()
    if mcp_config is not None:
        settings = settings.model_copy(update={"mcp_config": mcp_config})
    workflow = check_wish(wish, settings)
    tools = McpClient.from_environment(settings.mcp_config)
    try:
        engine = WorkflowEngine(tools, persistence=False, settings=settings)
        result = engine.execute(workflow, {**wish.context, "input": wish.input})
    finally:
        tools.close()
    steps: list[dict[str, Any]] = [
        {
            "name": step.name,
            "status": step.status,
            "output": step.output,
            "error": step.error,
            "durationMs": step.duration_ms,
            "retryCount": step.retry_count,
            **cost_keys(asdict(step)),
        }
        for step in result.steps
    ]
    shown = {
        "executionId": str(result.execution_id),
        "status": result.status,
        "output": result.output,
        "error": result.error,
        **cost_keys({"cost_nanos": result.cost_nanos, "unpriced_calls": result.unpriced_calls}),
        "steps": steps,
        "persisted": False,
    }
    click.echo(json.dumps(shown, ensure_ascii=False))
    return EXIT_CODES[result.status]
