"""The client under the official conformance suite: `python client.py URL` connects, lists the tools and calls each of them.

The suite is the server and the judge. It says what it wants through MCP_CONFORMANCE_SCENARIO and MCP_CONFORMANCE_CONTEXT
(JSON; `toolCalls` names exactly what to call). Exit code 1 when the client itself could not do its work.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from orchestrator.outcome import Cancelled, Failed
from persistence.errors import Unreachable
from workers.mcp_client import McpClient, ServerConfig

_EXAMPLES: dict[str, Any] = {"string": "text", "integer": 5, "number": 3, "boolean": True, "array": [], "object": {}}


def main(url: str) -> int:
    scenario = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    with McpClient({"suite": ServerConfig("suite", url=url, timeout=10)}) as client:
        try:
            tools = client.list_tools("suite")
        except Unreachable as error:
            print(error, file=sys.stderr)
            return 1
        failures = 0
        for name, arguments in wanted_calls(scenario, context, tools):
            outcome = client.call("suite", name, arguments)
            print(name, outcome, file=sys.stderr)
            failures += isinstance(outcome, Cancelled) or (isinstance(outcome, Failed) and outcome.kind != "tool_error")
    return 1 if failures else 0


def wanted_calls(
    scenario: str, context: dict[str, Any], tools: list[dict[str, Any]]
) -> list[tuple[str, dict[str, Any]]]:
    """Which tools to call with what, by the suite's rules."""
    if "toolCalls" in context:
        return [(call["name"], call.get("arguments") or {}) for call in context["toolCalls"]]
    if scenario == "json-schema-ref-no-deref":
        return []  # its server only lists
    if scenario == "json-schema-2020-12-preservation":
        first, second = tools[:2]
        return [(first["name"], {}), (second["name"], {"schema": first["inputSchema"]})]
    return [(tool["name"], example(tool.get("inputSchema") or {})) for tool in tools]


def example(schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments that fit the schema's types."""
    properties = schema.get("properties") or {}
    return {name: _EXAMPLES.get(str(part.get("type")), "text") for name, part in properties.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[-1]))
