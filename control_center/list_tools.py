"""`afu9 tools`: the catalogue, as the workers stored it or as the servers answer now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click
from psycopg.rows import DictRow

from control_center.progress import iso
from control_center.services import open_services
from persistence.errors import Afu9Error, NotFound
from persistence.pool import Pool, open_pool, run
from persistence.settings import Settings
from workers.keep_catalogue import Change, refresh
from workers.mcp_client import McpClient


@click.command("tools")
@click.argument("name", required=False)
@click.option("--refresh", "ask", is_flag=True, help="Ask the servers now.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, schemas included.")
def tools_command(name: str | None, ask: bool, as_json: bool) -> int:
    """List the tools of all servers, of the server NAME, or one tool (SERVER.TOOL) with its input schema."""
    settings = Settings.load()
    server, _, tool = (name or "").partition(".")
    with open_services(settings) as services, open_pool(services.settings.database_dsn) as pool:
        failures = _refresh(pool, settings, server) if ask or not run(pool, "list_servers") else []
        rows = [row for row in run(pool, "list_tools", {"server": server or None}) if tool in ("", row["tool"])]
    if name and not rows and not failures:
        raise NotFound(f"no tool or server {name} in the catalogue: `afu9 tools --refresh` asks the servers")
    if as_json:
        click.echo(json.dumps({"tools": [tool_object(row) for row in rows]}, ensure_ascii=False))
    else:
        _print(rows, whole=bool(tool))
    return 6 if failures else 0


def known_tools(dsn: str) -> dict[str, dict[str, Any]]:
    """As tool_schemas, with a connection of its own."""
    with open_pool(dsn) as pool:
        return tool_schemas(pool)


def tool_schemas(pool: Pool) -> dict[str, dict[str, Any]]:
    """The input schemas of the catalogue, by server and tool; only of servers that have listed their tools."""
    fetched = [row["name"] for row in run(pool, "list_servers") if row["fetched_at"] is not None]
    known: dict[str, dict[str, Any]] = {server: {} for server in fetched}
    for row in run(pool, "list_tools", {"server": None}):
        known.setdefault(row["server"], {})[row["tool"]] = row["input_schema"]
    return known


def _refresh(pool: Pool, settings: Settings, server: str) -> list[str]:
    """Asks the servers; the names of those that did not answer."""
    failures = []
    with McpClient.from_environment(settings.mcp_config) as client:
        for name in [server] if server else list(client.servers):
            try:
                for change in refresh(pool, client, name):
                    _tell(change)
            except Afu9Error as error:
                click.echo(f"{name}: {error}", err=True)
                failures.append(name)
    return failures


def _tell(change: Change) -> None:
    used = f"; called by {', '.join(change.workflows)}" if change.workflows else ""
    if change.change != "added":
        click.echo(f"{change.server}.{change.tool} was {change.change}{used}", err=True)


def _print(rows: Sequence[DictRow], *, whole: bool) -> None:
    for row in rows:
        first = (row["description"] or "").strip().split("\n")[0]
        repeat = "may be repeated" if row["repeatable"] else "not repeated if its outcome is unknown"
        click.echo(f"{row['server']}.{row['tool']}\t{repeat}\t{first}")
        if whole:
            click.echo(json.dumps(row["input_schema"], indent=2, ensure_ascii=False))


def tool_object(row: DictRow) -> dict[str, Any]:
    return {
        "server": row["server"],
        "tool": row["tool"],
        "description": row["description"],
        "inputSchema": row["input_schema"],
        "outputSchema": row["output_schema"],
        "annotations": row["annotations"],
        "repeatable": row["repeatable"],
        "era": row["era"],
        "hash": row["hash"],
        "fetchedAt": iso(row["fetched_at"]),
        "changedAt": iso(row["changed_at"]),
    }
