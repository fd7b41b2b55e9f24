"""A whole execution in the caller's own process: `WorkflowEngine(mcp_client).execute(workflow, context)`.

With a database it goes through the same transitions as the fleet, under a lease of its own: if this process dies, the
fleet's reaper finds the lease gone and the workers go on. Without one it runs in memory and says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from orchestrator import trace
from orchestrator.attempt_step import ToolCaller
from orchestrator.count_ends import count_execution
from orchestrator.definition import Workflow
from orchestrator.plan import UNNAMED
from orchestrator.run_in_memory import StepResult, run_in_memory
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.errors import Afu9Error, Unreachable
from persistence.executions import get_execution_steps, require_execution
from persistence.ids import time_ordered_uuid
from persistence.pool import Pool, check_database, open_pool, run
from persistence.settings import Settings
from persistence.transitions import ReadyStep, Transition
from workers.in_flight import Handed, InFlight
from workers.lease import Lease
from workers.mcp_client import McpClient
from workers.run_step import AttemptFailed, StepRunner
from workers.tools import Tools

log = logging.getLogger(__name__)

LOOK_AGAIN = 0.2  # seconds between looks at an execution whose steps the fleet has taken over


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """How an execution ended. `output` holds its variables; `persisted` says whether rows tell of it; `cost_nanos` is what
    it cost in nano-dollars (None: no call has a price), `unpriced_calls` how many calls have none."""

    execution_id: UUID
    status: str
    output: dict[str, Any]
    error: str | None
    steps: tuple[StepResult, ...]
    duration_ms: int
    persisted: bool
    cost_nanos: int | None = None
    unpriced_calls: int = 0


class WorkflowEngine:
    """`pool` or the settings name the database; `persistence=False` never asks for one."""

    def __init__(
        self,
        mcp_client: McpClient | ToolCaller,
        persistence: bool = True,
        *,
        pool: Pool | None = None,
        settings: Settings | None = None,
    ):
        self._settings = settings or Settings.load()
        self._client = mcp_client
        self._persistence = persistence
        self._pool = pool

    def execute(
        self, workflow: Workflow | Mapping[str, Any], context: Mapping[str, Any], *, triggered_by: str | None = None
    ) -> ExecutionResult:
        """Runs the workflow to its end. `context` holds `input`, preset `variables`, and whatever else the templates read
        (`repo`, ...). Raises InvalidDefinition; a failing step is not an exception but a result with status failed."""
        trace.adopt(payloads=self._settings.trace_payloads)
        checked = workflow if isinstance(workflow, Workflow) else validate(dict(workflow))
        started = time.monotonic()
        pool = self._database()
        tools = self._tool_caller(pool)
        if pool is None:
            memory = run_in_memory(checked, context, tools)
            return ExecutionResult(
                memory.execution_id,
                memory.status,
                memory.variables,
                memory.error,
                memory.steps,
                round((time.monotonic() - started) * 1000),
                persisted=False,
                cost_nanos=memory.cost_nanos,
                unpriced_calls=memory.unpriced_calls,
            )
        execution_id = self._run_persisted(pool, tools, checked, context, triggered_by)
        return _result(pool, execution_id, started)

    def _database(self) -> Pool | None:
        if not self._persistence:
            return None
        try:
            self._pool = self._pool or open_pool(self._settings.database_dsn)
        except Afu9Error as error:
            log.debug("%s", error)
        if not check_database(self._pool):
            log.warning("Database not available, running without persistence")
            return None
        return self._pool

    def _tool_caller(self, pool: Pool | None) -> ToolCaller:
        if isinstance(self._client, McpClient):
            return Tools.from_settings(self._client, self._settings, pool)
        return self._client

    def go_on(self, execution_id: UUID) -> ExecutionResult:
        """Works here on an execution that was submitted, or let go on, until it rests. Raises NotFound, Unreachable."""
        trace.adopt(payloads=self._settings.trace_payloads)
        started = time.monotonic()
        pool = self._database()
        if pool is None:
            raise Unreachable("an execution that was submitted needs its database")
        require_execution(pool, execution_id)
        with self._runner(pool, self._tool_caller(pool)) as runner:
            self._drive(runner, execution_id, deque())
        return _result(pool, execution_id, started)

    def _run_persisted(
        self, pool: Pool, tools: ToolCaller, workflow: Workflow, context: Mapping[str, Any], triggered_by: str | None
    ) -> UUID:
        with self._runner(pool, tools) as runner:
            request = Request(input=context.get("input") or {}, context=context, triggered_by=triggered_by)
            submitted = Submitter(pool, None).submit(workflow, [request])[0]
            self._drive(runner, submitted.execution_id, deque(submitted.ready))
            return submitted.execution_id

    @contextmanager
    def _runner(self, pool: Pool, tools: ToolCaller) -> Iterator[StepRunner]:
        """A worker of one thread, with a lease of its own."""
        worker_id, in_flight = time_ordered_uuid(), InFlight()
        lease = Lease(
            str(pool.conninfo),
            worker_id,
            role="engine",
            threads=1,
            seconds=self._settings.heartbeat_seconds,
            on_stopped=in_flight.cancel,
        )
        lease.start()
        try:
            yield StepRunner(pool, None, tools, worker_id, in_flight)
        finally:
            lease.stop()

    def _drive(self, runner: StepRunner, execution_id: UUID, ready: deque[ReadyStep]) -> None:
        while True:
            if ready:
                transition = _run(runner, ready.popleft())
                if transition is not None:
                    ready.extend(transition.ready)
                if transition is not None and transition.successor is not None:
                    ready.append(runner.in_flight.hand(Handed(transition.successor, 0, 0.0)))
                continue
            for late in run(runner.pool, "expire_executions", {"limit": 100}):
                workflow = late["workflow"] or UNNAMED
                count_execution(runner.pool, late["execution_id"], workflow, "failed", "timeout")
            status = run(runner.pool, "get_progress", {"ids": [execution_id]})[0]["status"]
            if status in ("completed", "failed", "cancelled", "paused"):
                return
            due = run(runner.pool, "step_due", {"execution_id": execution_id})
            if due and due[0]["due_in"] <= 0:
                ready.append(ReadyStep(due[0]["id"], due[0]["attempt"]))
            else:
                threading.Event().wait(min(due[0]["due_in"] if due else LOOK_AGAIN, LOOK_AGAIN))


def _run(runner: StepRunner, step: ReadyStep) -> Transition | None:
    with runner.in_flight.only(step):
        try:
            return runner.run_step(step, hand_over=True)
        except AttemptFailed as failed:
            return runner.recorder.advance(failed.attempt)


def _result(pool: Pool, execution_id: UUID, started: float) -> ExecutionResult:
    execution = require_execution(pool, execution_id)
    steps = tuple(
        StepResult(
            name=row["step_name"],
            status=row["status"],
            output=row["output"],
            error=row["error"],
            duration_ms=row["duration_ms"],
            retry_count=row["retry_count"],
            cost_nanos=row["cost_nanos"],
            unpriced_calls=row["unpriced_calls"],
        )
        for row in get_execution_steps(pool, execution_id)
    )
    return ExecutionResult(
        execution_id,
        execution["status"],
        execution["output"] or {},
        execution["error"],
        steps,
        round((time.monotonic() - started) * 1000),
        persisted=True,
        cost_nanos=execution["cost_nanos"],
        unpriced_calls=execution["unpriced_calls"],
    )
