"""`afu9 validate FILE`: all faults of a definition, each with its place and a hint."""

from __future__ import annotations

import json
from pathlib import Path

import click

from control_center.list_tools import known_tools
from control_center.read_files import read_document
from orchestrator.check_tools import ToolSchemas
from orchestrator.validate import validate
from persistence.embedded import find_running
from persistence.errors import InvalidDefinition, SchemaMismatch, Unreachable
from persistence.settings import Settings
from workers.mcp_client import McpClient


@click.command("validate")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--mcp-config", type=click.Path(path_type=Path), help="mcpServers file; default AFU9_MCP_CONFIG.")
@click.option("--json", "as_json", is_flag=True, help='{"valid": ..., "faults": [{"pointer", "message", "hint"}]}')
def validate_command(file: Path, mcp_config: Path | None, as_json: bool) -> int:
    """Check the definition in FILE: servers where a configuration names them, tools and params where a database that is
    configured, or that `afu9 dev` runs, has the catalogue."""
    settings = Settings.load()
    config = mcp_config or settings.mcp_config
    servers = McpClient.from_environment(config).servers.keys() if config else None
    try:
        workflow = validate(read_document(file), servers=servers, tools=_known(settings))
    except InvalidDefinition as error:
        if not as_json:
            raise
        faults = [{"pointer": fault.pointer, "message": fault.message, "hint": fault.hint} for fault in error.faults]
        click.echo(json.dumps({"valid": False, "faults": faults}, ensure_ascii=False))
        return error.exit_code
    if as_json:
        click.echo(json.dumps({"valid": True, "faults": []}))
    else:
        click.echo(f"{file}: valid, {len(workflow.steps)} {'step' if len(workflow.steps) == 1 else 'steps'}")
    return 0


def _known(settings: Settings) -> ToolSchemas | None:
    running = find_running(settings.state_dir)
    dsn = settings.database_dsn or (running.database_url if running else "")
    try:
        return known_tools(dsn) if dsn else None
    except (Unreachable, SchemaMismatch) as error:
        click.echo(f"tools are not checked: {error}", err=True)
        return None
