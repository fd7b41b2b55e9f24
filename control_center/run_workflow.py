"""`afu9 run`: validate, submit, follow, report. The exit code is the execution's fate."""

from __future__ import annotations

import getpass
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from control_center.list_tools import known_tools
from control_center.progress import follow, result_object
from control_center.read_files import read_document, read_input, read_object
from control_center.services import Services, open_services
from control_center.timeline import render_execution
from orchestrator.broker import StepBroker
from orchestrator.check_tools import ToolSchemas
from orchestrator.definition import Workflow
from orchestrator.recover import Recovery
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.errors import InvalidInput
from persistence.executions import get_execution_steps, require_execution
from persistence.pool import open_pool, run
from persistence.settings import Settings
from workers.mcp_client import McpClient

EXIT_CODES = {"completed": 0, "failed": 7, "cancelled": 8, "paused": 0}


@click.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="Input; @FILE takes an object.")
@click.option("--context", "context_file", type=click.Path(path_type=Path), help="Initial context: JSON or YAML.")
@click.option("--mcp-config", type=click.Path(path_type=Path), help="mcpServers file; default AFU9_MCP_CONFIG.")
@click.option("--title", help="A label for people.")
@click.option("--idempotency-key", help="A second run with this key follows the first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, and nothing else.")
@click.option("--no-persistence", is_flag=True, help="Run in memory: no database, nothing is kept.")
def run_command(
    file: Path,
    pairs: tuple[str, ...],
    context_file: Path | None,
    mcp_config: Path | None,
    title: str | None,
    idempotency_key: str | None,
    as_json: bool,
    no_persistence: bool,
) -> int:
    """Run the workflow in FILE and wait for its end."""
    settings = Settings.load()
    if mcp_config is not None:
        settings = settings.model_copy(update={"mcp_config": mcp_config})
    context = read_object(context_file, "context") if context_file else {}
    for key in ("input", "variables"):
        if not isinstance(context.get(key, {}), dict):
            raise InvalidInput(f"{context_file}: `{key}` of the context must be an object")
    request = Request(
        input=context.get("input", {}) | read_input(pairs),
        context=context,
        title=title,
        triggered_by=_who(),
        idempotency_key=idempotency_key,
    )
    document = read_document(file)
    workflow = _checked(document, settings, request, None)
    if no_persistence:
        return _run_in_memory(workflow, settings, request)
    with open_services(settings) as services:
        workflow = _checked(document, settings, request, known_tools(services.settings.database_dsn))
        with _fleet(services) as on_idle:
            return _submit_and_follow(services, workflow, request, as_json, on_idle)


def _checked(document: Any, settings: Settings, request: Request, known: ToolSchemas | None) -> Workflow:
    tools = McpClient.from_environment(settings.mcp_config)
    keys = {"input", *request.context, *request.context.get("variables", {})}
    try:
        return validate(document, servers=tools.servers.keys(), context_keys=keys, tools=known)
    finally:
        tools.close()


def _submit_and_follow(
    services: Services, workflow: Workflow, request: Request, as_json: bool, on_idle: Callable[[float], None] | None
) -> int:
    settings = services.settings
    pool = open_pool(settings.database_dsn)
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    try:
        submitted = Submitter(pool, broker).submit(workflow, [request])[0]
        execution_id = submitted.execution_id
        if not as_json and sys.stdout.isatty():
            click.echo(f"execution {execution_id}", err=True)
        status = follow(pool, execution_id, quiet=as_json, on_idle=on_idle)
        if as_json or not sys.stdout.isatty():
            click.echo(json.dumps(result_object(pool, execution_id), ensure_ascii=False))
        else:
            execution = require_execution(pool, execution_id)
            events = run(pool, "get_execution_events", {"execution_id": execution_id})
            for line in render_execution(execution, get_execution_steps(pool, execution_id), events):
                click.echo(line)
        return EXIT_CODES[status]
    except KeyboardInterrupt:
        if services.origin != "embedded":
            click.echo("the execution goes on without us: `afu9 show` tells how", err=True)
        raise
    finally:
        broker.close()
        pool.close()


@contextmanager
def _fleet(services: Services) -> Iterator[Callable[[float], None] | None]:
    """With embedded servers the worker is ours too, unless their owner has one; else the fleet's workers run the steps."""
    if services.origin == "configured" or (services.origin == "attached" and _workers_alive(services)):
        yield _no_worker_hint(services)
        return
    from workers.serve import Served

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    settings = services.settings
    pool = open_pool(settings.database_dsn)
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    recovery = Recovery(pool, broker, settings)
    served = Served(settings.model_copy(update={"drain_seconds": 2.0}), watched=False)
    recovery.start()
    try:
        yield None
        services.wait_for_others()
    finally:
        recovery.stop()
        served.stop()
        broker.close()
        pool.close()


def _no_worker_hint(services: Services) -> Callable[[float], None]:
    told = False

    def hint(idle_seconds: float) -> None:
        nonlocal told
        if told or idle_seconds < 3:
            return
        told = True
        if not _workers_alive(services):
            click.echo("no worker is alive: start one with `afu9 worker`; the execution waits", err=True)

    return hint


def _workers_alive(services: Services) -> bool:
    with open_pool(services.settings.database_dsn) as pool:
        return bool(run(pool, "server_facts")[0]["workers_alive"])


def _run_in_memory(workflow: Workflow, settings: Settings, request: Request) -> int:
    from workers.engine import WorkflowEngine

    tools = McpClient.from_environment(settings.mcp_config)
    try:
        engine = WorkflowEngine(tools, persistence=False, settings=settings)
        result = engine.execute(workflow, {**request.context, "input": request.input})
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
        }
        for step in result.steps
    ]
    shown = {"executionId": str(result.execution_id), "status": result.status, "output": result.output}
    click.echo(json.dumps({**shown, "error": result.error, "steps": steps, "persisted": False}, ensure_ascii=False))
    return EXIT_CODES[result.status]


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in this container
        return "unknown"
