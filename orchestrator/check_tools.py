"""A step against the tool catalogue: does the tool exist, and do the params that are written out fit its input schema.

What a template or a secret will put in is not known yet, so a complaint about a value that holds one is left to the call.
Schemas come from servers: one that is not valid, or that refers elsewhere, judges nothing, and nothing is ever fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from jsonschema import SchemaError, ValidationError

from orchestrator.builtin_tools import BUILTIN, INPUT_SCHEMAS
from orchestrator.check_input import dialect_of, faults_by, one_line
from orchestrator.check_transform import transform_findings
from orchestrator.explain import suggest
from orchestrator.plain import Finding

ToolSchemas: TypeAlias = Mapping[str, Mapping[str, Any]]  # server -> tool -> its inputSchema

ABOUT_KEYS = frozenset({"required", "additionalProperties", "dependentRequired", "minProperties", "maxProperties"})
MAX_FAULTS = 20


class _Unknown:
    """Stands for a value that only the run will know."""

    def __repr__(self) -> str:
        return "a value known at run time"


def tool_findings(index: int, tool: str, params: Any, schemas: ToolSchemas) -> Iterator[Finding]:
    """What is wrong with the call in step `index`. A server that the catalogue does not know is not judged."""
    server, _, name = tool.partition(".")
    tools = INPUT_SCHEMAS if server == BUILTIN else schemas.get(server)
    if tools is None:
        return
    if name not in tools:
        hint = suggest(name, tools) or f"it has: {', '.join(sorted(tools)[:20])}"
        yield Finding(("steps", index, "tool"), f"the server “{server}” has no tool “{name}”", hint)
    elif isinstance(params, dict) and isinstance(tools[name], dict):
        yield from _param_findings(index, tool, params, tools[name])
        if tool == f"{BUILTIN}.transform":
            yield from transform_findings(index, params)


def _param_findings(index: int, tool: str, params: dict[str, Any], schema: dict[str, Any]) -> Iterator[Finding]:
    try:
        dialect_of(schema).check_schema(schema)
    except (SchemaError, RecursionError):
        return
    errors = faults_by(schema, _with_unknowns(params))
    known = [error for error in errors if error.validator in ABOUT_KEYS or not _holds_unknown(error.instance)]
    for error in known[:MAX_FAULTS]:
        yield Finding(("steps", index, "params", *error.absolute_path), _sentence(error), f"see `afu9 tools {tool}`")


def _sentence(error: ValidationError) -> str:
    return f"does not fit the tool's input schema: {one_line(error.message)}"


def _with_unknowns(value: Any) -> Any:
    if isinstance(value, str):
        return _Unknown() if "${" in value else value
    if isinstance(value, list):
        return [_with_unknowns(item) for item in value]
    if isinstance(value, dict):
        return _Unknown() if set(value) == {"$secret"} else {key: _with_unknowns(item) for key, item in value.items()}
    return value


def _holds_unknown(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_unknown, value.values()))
    return any(map(_holds_unknown, value)) if isinstance(value, list) else isinstance(value, _Unknown)
