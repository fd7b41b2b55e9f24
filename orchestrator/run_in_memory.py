"""An execution without a database: the same plan, the same attempts, the same retries, and nothing kept."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, assert_never
from uuid import UUID

from orchestrator import trace
from orchestrator.advance import Attempt, is_retryable, retry_delay
from orchestrator.attempt_step import ToolCaller, attempt_step
from orchestrator.builtin_tools import BUILTIN
from orchestrator.count_ends import OK
from orchestrator.definition import Workflow
from orchestrator.outcome import Cancelled, Failed, Skipped, Succeeded
from orchestrator.plan import UNNAMED, PlannedStep, definition_hash, plan
from orchestrator.price import has_room, over_limit
from persistence.ids import time_ordered_uuid
from persistence.transitions import Claim


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step's end; the same fields as its row would have. duration in milliseconds, None if it never ran. cost_nanos:
    of all its attempts, None if none has a price; unpriced_calls: those of unknown price, None if none was counted."""

    name: str
    status: str
    output: Any = None
    error: str | None = None
    duration_ms: int | None = None
    retry_count: int = 0
    cost_nanos: int | None = None
    unpriced_calls: int | None = None


@dataclass(frozen=True, slots=True)
class InMemoryResult:
    """cost_nanos: of all its steps, None if no call has a price; unpriced_calls: as execution_cost in schema.sql has them."""

    execution_id: UUID
    status: str
    variables: dict[str, Any]
    error: str | None
    steps: tuple[StepResult, ...]
    cost_nanos: int | None
    unpriced_calls: int


class _Bill:
    """What a step's attempts cost."""

    def __init__(self) -> None:
        self.nanos: int | None = None
        self.unpriced: int | None = None

    def add(self, attempt: Attempt) -> None:
        if attempt.cost is None:
            return
        if attempt.cost.nanos is None:
            self.unpriced = (self.unpriced or 0) + 1
        else:
            self.nanos = (self.nanos or 0) + attempt.cost.nanos


def run_in_memory(workflow: Workflow, context: Mapping[str, Any], tools: ToolCaller) -> InMemoryResult:
    """Runs every step in dependency order. Ends at the first failed step, unless config.continueOnError."""
    return _InMemoryRun(workflow, context, tools).run()


class _InMemoryRun:
    def __init__(self, workflow: Workflow, context: Mapping[str, Any], tools: ToolCaller):
        self._execution_id = time_ordered_uuid()
        self._name = workflow.name or UNNAMED
        self._digest = definition_hash(workflow)
        self._steps = plan(workflow).steps
        self._continue = plan(workflow).continue_on_error
        self._timeout_ms = plan(workflow).timeout_ms
        self._max_cost = plan(workflow).max_cost_nanos
        self._spent = 0
        self._context = context
        self._tools = tools
        self._pause: str | None = None
        if trace.on is not None:
            trace.on.submitting([self._execution_id])
        self._results = {step.index: StepResult(step.name, "pending") for step in self._steps}

    def run(self) -> InMemoryResult:
        needs = {step.index: step.needs for step in self._steps}
        ready = deque(step for step in self._steps if step.needs == 0)
        deadline = time.monotonic() + self._timeout_ms / 1000 if self._timeout_ms else None
        while ready:
            step = ready.popleft()
            if deadline and time.monotonic() > deadline:
                return self._end("failed", f"the execution ran longer than its timeoutMs of {self._timeout_ms}")
            result = self._results[step.index] = self._run_step(step)
            if result.status == "failed" and not self._continue:
                return self._end("failed", f"step {step.name}: {result.error}")
            if self._pause is not None:
                return self._end("paused", self._pause)
            for index in step.successors:
                needs[index] -= 1
                if needs[index] == 0:
                    ready.append(self._steps[index])
        return self._end("completed", None)

    def _run_step(self, step: PlannedStep) -> StepResult:
        bill = _Bill()
        return replace(self._attempts(step, bill), cost_nanos=bill.nanos, unpriced_calls=bill.unpriced)

    def _attempts(self, step: PlannedStep, bill: _Bill) -> StepResult:
        started = time.monotonic()
        retries = 0
        while True:
            claim = Claim(
                time_ordered_uuid(),
                retries + 1,
                self._execution_id,
                step.index,
                self._digest,
                self._scope(step),
                retries,
            )
            admit = None if self._max_cost is None else self._admit
            attempt = attempt_step(claim, step, self._tools, threading.Event(), admit=admit)
            bill.add(attempt)
            if attempt.cost is not None:
                self._spent += attempt.cost.nanos or 0
            self._pause = attempt.pause
            match attempt.outcome:
                case Succeeded(output=output):
                    return StepResult(step.name, "completed", output, None, _since(started), retries)
                case Skipped():
                    return StepResult(step.name, "skipped", duration_ms=0)
                case Failed() as failed if is_retryable(failed, step) and retries < step.max_retries:
                    threading.Event().wait(retry_delay(failed, step, retries))
                    retries += 1
                case Failed() as failed:
                    return StepResult(step.name, "failed", None, failed.message, _since(started), retries)
                case Cancelled(reason=reason):
                    return StepResult(step.name, "failed", None, reason, _since(started), retries)
                case never:
                    assert_never(never)

    def _admit(self, known_nanos: int) -> Failed | None:
        limit = self._max_cost or 0
        return None if has_room(known_nanos, self._spent, limit) else over_limit(known_nanos, self._spent, limit)

    def _scope(self, step: PlannedStep) -> dict[str, Any]:
        preset = self._context.get("variables") or {}
        scope: dict[str, Any] = {}
        for key in step.context_keys:
            if key == "input":
                scope[key] = self._context.get("input") or {}
            elif key in preset or key in self._context:
                scope[key] = preset[key] if key in preset else self._context[key]
        for index in step.variable_steps:
            name = self._steps[index].assign
            if name is not None:
                scope[name] = self._results[index].output
        return scope

    def _end(self, status: str, error: str | None) -> InMemoryResult:
        variables = dict(self._context.get("variables") or {})
        for step in self._steps:
            if step.assign and self._results[step.index].status == "completed":
                variables[step.assign] = self._results[step.index].output
        steps = tuple(self._results[step.index] for step in self._steps)
        priced = [result.cost_nanos for result in steps if result.cost_nanos is not None]
        unpriced = sum(self._unpriced(step) for step in self._steps)
        if trace.on is not None:
            reason = OK if status in ("completed", "paused") else "tool_error"
            trace.on.execution_ended(None, self._execution_id, self._name, status, reason)
        return InMemoryResult(
            self._execution_id, status, variables, error, steps, sum(priced) if priced else None, unpriced
        )

    def _unpriced(self, step: PlannedStep) -> int:
        """A step that completed without a price is such a call, also where calls are not counted."""
        result = self._results[step.index]
        uncounted = result.status == "completed" and result.cost_nanos is None and step.server != BUILTIN
        return max(result.unpriced_calls or 0, int(uncounted))


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
