"""Runs steps in the test's own thread, through the transitions and nothing else."""

from __future__ import annotations

from collections import deque
from uuid import UUID, uuid4

from orchestrator.attempt_step import ToolCaller
from orchestrator.definition import Workflow
from orchestrator.submit import Request, Submitter
from persistence.pool import Pool, run
from persistence.transitions import ReadyStep
from workers.engine import WorkflowEngine
from workers.in_flight import InFlight
from workers.run_step import AttemptFailed, StepRunner


def submit(pool: Pool, workflow: Workflow, **request: object) -> UUID:
    """An execution that nobody runs yet."""
    return Submitter(pool, None).submit(workflow, [Request(**{"input": {"n": 7}, **request})])[0].execution_id  # type: ignore[arg-type]


def drive(pool: Pool, execution_id: UUID, tools: ToolCaller) -> str:
    """Runs an execution until it rests or is paused; its status."""
    runner = StepRunner(pool, None, tools, uuid4(), InFlight())
    WorkflowEngine(tools, pool=pool)._drive(runner, execution_id, deque())
    return status_of(pool, execution_id)


def drive_some(pool: Pool, execution_id: UUID, tools: ToolCaller, steps: int) -> str:
    """Runs so many of its due steps at most, one after the other."""
    runner = StepRunner(pool, None, tools, uuid4(), InFlight())
    for _ in range(steps):
        due = run(pool, "step_due", {"execution_id": execution_id})
        if not due or due[0]["due_in"] > 0:
            break
        step = ReadyStep(due[0]["id"], due[0]["attempt"])
        with runner.in_flight.only(step):
            try:
                runner.run_step(step)
            except AttemptFailed as failed:
                runner.recorder.advance(failed.attempt)
    return status_of(pool, execution_id)


def status_of(pool: Pool, execution_id: UUID) -> str:
    status: str = run(pool, "get_progress", {"ids": [execution_id]})[0]["status"]
    return status
