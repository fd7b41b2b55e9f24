"""The MCP servers and their tools, from the catalogue's rows: only workers talk to servers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from control_center.api.auth import needs
from control_center.api.problems import documented
from control_center.api.shapes import _Shape
from control_center.list_tools import tool_object
from control_center.progress import iso
from persistence.pool import run

router = APIRouter(prefix="/api", tags=["servers"], dependencies=[Depends(needs("viewer"))])


class ServerHealth(_Shape):
    """`healthy`: it answered when a worker last looked."""

    name: str
    healthy: bool
    protocol: str | None
    tools: int
    error: str | None
    looked_at: str | None
    fetched_at: str | None


class Health(_Shape):
    servers: list[ServerHealth]
    total: int
    healthy: int


class Tool(_Shape):
    server: str
    tool: str
    description: str | None
    input_schema: Any
    output_schema: Any
    annotations: Any
    repeatable: bool
    era: str | None
    hash: str
    fetched_at: str | None
    changed_at: str | None


class ToolList(_Shape):
    tools: list[Tool]
    total: int


@router.get("/mcp/health", responses=documented())
def mcp_health(request: Request) -> Health:
    """How the servers were when a worker last looked."""
    servers = [
        ServerHealth(
            name=row["name"],
            healthy=row["error"] is None and row["fetched_at"] is not None,
            protocol=row["era"],
            tools=row["tools"],
            error=row["error"],
            looked_at=iso(row["looked_at"]),
            fetched_at=iso(row["fetched_at"]),
        )
        for row in run(request.app.state.read_pool, "list_servers")
    ]
    return Health(servers=servers, total=len(servers), healthy=sum(server.healthy for server in servers))


@router.get("/mcp/tools", responses=documented("invalid-request"))
def list_tools(request: Request, server: Annotated[str | None, Query(max_length=255)] = None) -> ToolList:
    """What the servers offer."""
    rows = run(request.app.state.read_pool, "list_tools", {"server": server})
    tools = [Tool(**tool_object(row)) for row in rows]
    return ToolList(tools=tools, total=len(tools))
