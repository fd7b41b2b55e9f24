"""Whether what somebody wants to run can run, as far as this machine can tell."""

from __future__ import annotations

from control_center.source import Wish
from orchestrator.check_tools import ToolSchemas
from orchestrator.definition import Workflow
from orchestrator.validate import validate
from persistence.settings import Settings
from workers.mcp_client import McpClient


def check_wish(wish: Wish, settings: Settings, known: ToolSchemas | None = None) -> Workflow:
    """The definition as a workflow. `known`: the catalogue, where there is one. Raises InvalidDefinition."""
    tools = McpClient.from_environment(settings.mcp_config)
    keys = {"input", *wish.context, *wish.context.get("variables", {})}
    try:
        return validate(wish.definition, servers=tools.servers.keys(), context_keys=keys, tools=known)
    finally:
        tools.close()
