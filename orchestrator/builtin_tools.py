"""What the tools of the server `builtin` take and give. Every installation has them, so validation knows them without a
catalogue; workers/mcp_client/builtin.py runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.workflow_schema import Untitled

BUILTIN: Final = "builtin"
LONGEST_SLEEP = 86_400  # seconds


class Echo(BaseModel):
    """Answers its arguments, whatever they are."""

    model_config = ConfigDict(extra="allow")


class _Arguments(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Sleep(_Arguments):
    """Waits, then answers. It occupies a worker's thread meanwhile; its step's deadline and a cancellation end it."""

    seconds: float = Field(ge=0, le=LONGEST_SLEEP, allow_inf_nan=False, description="How long")
    value: Any = Field(default_factory=lambda: None, description='The answer; without it {"slept": seconds}')


class Fail(_Arguments):
    """Fails on purpose, always: for trying out retries and alerts."""

    message: str = Field("failed on purpose", description="What the step's error says")
    kind: Literal["tool_error", "invalid_response", "rate_limited", "transport"] = Field(
        "tool_error",
        description="tool_error: the tool said no. invalid_response: its answer cannot be read. rate_limited: it did "
        "not run. transport: nobody knows whether it ran",
    )


class Transform(_Arguments):
    """Works out a CEL expression, as `if` and ${…} do, over values of its own: {"result": …}."""

    expression: str = Field(min_length=1, description="CEL without ${…}, which a step fills in before the call")
    with_: dict[str, Any] = Field(default_factory=dict, alias="with", description="The values it reads, by name")


_ANY = {"description": "Any JSON value"}
_TAKES_AND_GIVES: Mapping[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "echo": (Echo, {"type": "object"}),
    "fail": (Fail, {"not": {}}),
    "sleep": (Sleep, {"description": 'The value, or {"slept": seconds}'}),
    "transform": (Transform, {"type": "object", "properties": {"result": _ANY}, "required": ["result"]}),
}


def _listed(name: str, takes: type[BaseModel], gives: dict[str, Any]) -> dict[str, Any]:
    schema = takes.model_json_schema(schema_generator=Untitled)
    del schema["title"]
    return {
        "name": name,
        "description": schema.pop("description"),
        "inputSchema": schema,
        "outputSchema": gives,
        "annotations": {"readOnlyHint": True, "idempotentHint": True, "openWorldHint": False},
    }


TOOLS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {name: _listed(name, takes, gives) for name, (takes, gives) in _TAKES_AND_GIVES.items()}
)
"""As tools/list describes them, by name."""

INPUT_SCHEMAS: Mapping[str, Any] = MappingProxyType({name: tool["inputSchema"] for name, tool in TOOLS.items()})
