"""Operations on registered workflows, and on what the API knows of servers and of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from control_center.client.call import Call, path, post
from control_center.client.flow import Flow, ask
from control_center.client.keep_answers import (
    CostList,
    Health,
    McpHealth,
    Readiness,
    Registered,
    Tool,
    ToolList,
    Workflow,
    WorkflowDetail,
    WorkflowPage,
)
from control_center.client.stats_answers import QueueList, StatList, WorkerList


def register_workflow(definition: Mapping[str, Any]) -> Flow[Registered]:
    """Registers a definition under its own name; a changed one becomes a new version. Not repeated if its answer is lost:
    another's version may have come in between."""
    return ask(post(path("api", "workflow", "workflows"), {"definition": definition}, repeatable=False), Registered)


def workflows() -> Flow[list[Workflow]]:
    """The newest version of each, by name."""
    found: list[Workflow] = []
    cursor: str | None = None
    while True:
        page = yield from ask(Call("GET", path("api", "workflow", "workflows", limit=500, cursor=cursor)), WorkflowPage)
        found += page.workflows
        cursor = page.next_cursor
        if cursor is None:
            return found


def get_workflow(name: str, *, version: int | None = None) -> Flow[WorkflowDetail]:
    """A workflow with its definition: the newest version, or the one asked for."""
    return ask(Call("GET", path("api", "workflow", "workflows", name, version=version)), WorkflowDetail)


def enable(name: str) -> Flow[Workflow]:
    """It may be started again."""
    return ask(Call("POST", path("api", "workflow", "workflows", name, "enable")), Workflow)


def disable(name: str) -> Flow[Workflow]:
    """No execution of it is started any more; those that run go on."""
    return ask(Call("POST", path("api", "workflow", "workflows", name, "disable")), Workflow)


def costs(window: str = "30d", by: str = "workflow") -> Flow[CostList]:
    """What calls cost on so many UTC days, today included; `by` workflow, server, tool or day."""
    return ask(Call("GET", path("api", "workflow", "cost", window=window, by=by)), CostList)


def stats(window: str = "24h", by: str = "workflow", *, workflow: str | None = None) -> Flow[StatList]:
    """What ended in `24h`, `7d`, `30d` or `90d`; `by` workflow, step, tool, server or time. And the most frequent errors."""
    return ask(Call("GET", path("api", "workflow", "stats", window=window, by=by, workflow=workflow)), StatList)


def queues() -> Flow[QueueList]:
    """What waits, what runs, and what stands in its way."""
    return ask(Call("GET", path("api", "workflow", "queues")), QueueList)


def workers() -> Flow[WorkerList]:
    """The processes that hold a lease."""
    return ask(Call("GET", path("api", "workflow", "workers")), WorkerList)


def tools(server: str | None = None) -> Flow[list[Tool]]:
    """What the MCP servers offer, or one of them."""
    return (yield from ask(Call("GET", path("api", "mcp", "tools", server=server)), ToolList)).tools


def mcp_health() -> Flow[McpHealth]:
    """How the MCP servers were when a worker last looked."""
    return ask(Call("GET", path("api", "mcp", "health")), McpHealth)


def health() -> Flow[Health]:
    """The API's process runs."""
    return ask(Call("GET", path("healthz")), Health)


def ready() -> Flow[Readiness]:
    """The API can serve: its database answers and has the schema it knows. Raises Unavailable, after trying for a while."""
    return ask(Call("GET", path("readyz")), Readiness)
