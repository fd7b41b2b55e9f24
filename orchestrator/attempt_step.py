"""One attempt of a step: condition, params, call. It ends in an outcome, whatever happens, and holds no connection."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

from orchestrator.advance import Attempt
from orchestrator.conditions import ConditionError
from orchestrator.outcome import Cancelled, Failed, Skipped, Succeeded
from orchestrator.plan import PlannedStep
from orchestrator.substitute import PathNotFound
from persistence.transitions import Claim


class ToolCaller(Protocol):
    """Whoever calls tools: workers.mcp_client.McpClient. Never raises for what a server or a network does."""

    def call(
        self,
        server: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        timeout: float | None = None,
        idempotency_key: str = "",
        meta: Mapping[str, Any] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Succeeded | Failed | Cancelled: ...


def attempt_step(claim: Claim, step: PlannedStep, tools: ToolCaller, cancelled: threading.Event) -> Attempt:
    """Runs the attempt. The idempotency key is the same for every attempt of the step: a server may use it to tell a
    repetition from a second wish."""
    params: Any = None
    try:
        if step.condition is not None and not step.condition.holds(claim.scope):
            return Attempt(claim, step, None, Skipped())
        params = step.params.render(claim.scope)
    except (PathNotFound, ConditionError) as error:
        return Attempt(claim, step, None, Failed("invalid_params", str(error), "definite"))
    outcome = tools.call(
        step.server,
        step.tool_name,
        params,
        timeout=step.timeout_ms / 1000 if step.timeout_ms else None,
        idempotency_key=f"{claim.execution_id}:{step.name}",
        cancelled=cancelled,
    )
    return Attempt(claim, step, params, outcome)
