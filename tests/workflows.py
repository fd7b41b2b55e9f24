"""Small definitions, tools that need no server, and what must be true of rows at rest."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from orchestrator.definition import Workflow
from orchestrator.outcome import Cancelled, Failed, Succeeded
from orchestrator.price import Price
from orchestrator.validate import validate
from persistence.executions import get_execution_steps
from persistence.pool import Pool

Answer = Succeeded | Failed | Cancelled


def sequence(count: int, *, config: Mapping[str, Any] | None = None, **step: Any) -> Workflow:
    """`count` steps `test.echo`, each assigning v<i> and reading the one before."""
    steps = [
        {
            "name": f"step_{index}",
            "tool": "test.echo",
            "params": {"value": index, "before": f"${{v{index - 1}}}" if index else "${input.n}"},
            "assign": f"v{index}",
            **step,
        }
        for index in range(count)
    ]
    return validate({"name": "sequence", "steps": steps, "config": dict(config or {})})


class FunctionTools:
    """A ToolCaller whose tools are functions of their arguments. Counts calls and idempotency keys."""

    max_output_bytes = 262_144
    longest_call_seconds = 30.0
    repeatable = True

    def __init__(self, **tools: Callable[..., Answer | Any]):
        self._tools = tools
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.keys: Counter[str] = Counter()
        self.priced: dict[str, dict[str, Price]] = {}  # by server and tool

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
    ) -> Answer:
        with self._lock:
            self.calls[tool] += 1
            self.keys[idempotency_key] += 1
        answer = self._tools[tool](**arguments)
        return answer if isinstance(answer, Succeeded | Failed | Cancelled) else Succeeded(answer)

    def may_repeat(self, server: str, tool: str, idempotent: bool | None) -> bool:
        return self.repeatable if idempotent is None else idempotent

    def prices(self, server: str) -> dict[str, Price]:
        return self.priced.get(server, {})

    def shown(self, params: Any) -> Any:
        return params


def echo(**arguments: Any) -> dict[str, Any]:
    """Answers its arguments."""
    return arguments


def assert_invariants_at_rest(pool: Pool, execution_id: UUID) -> None:
    """attempt = 1 + retry_count + released_count for every step that ran, and nothing is left running or waiting."""
    for step in get_execution_steps(pool, execution_id):
        assert step["status"] in ("completed", "failed", "skipped"), step["step_name"]
        assert step["attempt"] == 1 + step["retry_count"] + step["released_count"], step["step_name"]
