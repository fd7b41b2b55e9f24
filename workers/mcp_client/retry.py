"""Whether a failed call may be made again without asking a person.

What never ran may always be repeated, what definitely failed never is. Between them stands the unknown outcome: it is
repeated unless the tool is known to be unsafe to repeat. The order of who knows best: the step, the tool's
annotations (if the operator trusts the server), the server's setting for tools that say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.outcome import Failed
from workers.mcp_client.servers import ServerConfig


def retry_is_safe(
    failed: Failed, *, annotations: Mapping[str, Any] | None, config: ServerConfig, idempotent: bool | None
) -> bool:
    """`annotations` are the tool's own (tools/list), `idempotent` is what the step says (None: nothing)."""
    match failed.failure:
        case "not_executed":
            return True
        case "definite":
            return False
        case "unknown":
            return _may_run_twice(annotations if config.trust_annotations else None, config, idempotent)


def _may_run_twice(annotations: Mapping[str, Any] | None, config: ServerConfig, idempotent: bool | None) -> bool:
    if idempotent is not None:
        return idempotent
    said = annotations or {}
    if said.get("readOnlyHint") is True or said.get("idempotentHint") is True:
        return True
    if said.get("readOnlyHint") is False and said.get("idempotentHint") is False:
        return False
    return config.unannotated == "retry"
