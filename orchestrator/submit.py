"""Starts executions: one statement writes an execution and all of its steps, for one request or for thousands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from orchestrator.broker import StepBroker
from orchestrator.definition import Workflow
from orchestrator.plan import definition_hash, plan, stored_definition, stored_plan
from orchestrator.push import push_steps
from persistence.errors import InvalidInput
from persistence.ids import time_ordered_uuid
from persistence.pool import Pool
from persistence.transitions import Submitted, register_definition, register_workflow, submit_executions, submit_named


@dataclass(frozen=True, slots=True)
class Request:
    """One wish for an execution. `context` is what `${repo.owner}` and the like read; its `variables` are preset."""

    input: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    title: str | None = None
    triggered_by: str | None = None
    github_run_id: str | None = None
    idempotency_key: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    request_hash: str | None = None
    id: UUID = field(default_factory=time_ordered_uuid)


class Submitter:
    """Submits to one database. Without a broker nothing is pushed: the dispatcher finds the steps within its interval."""

    def __init__(self, pool: Pool, broker: StepBroker | None):
        self._pool = pool
        self._broker = broker
        self._registered: set[str] = set()

    def submit(
        self, workflow: Workflow, requests: Sequence[Request], workflow_id: UUID | None = None
    ) -> list[Submitted]:
        """One execution per request, in order. Raises InvalidJson, Unreachable."""
        digest = definition_hash(workflow)
        if digest not in self._registered:
            self._register(digest, workflow)
        return self.submit_stored(digest, requests, workflow_id)

    def submit_stored(
        self, digest: str, requests: Sequence[Request], workflow_id: UUID | None = None
    ) -> list[Submitted]:
        """The same for a definition that the database has."""
        submitted = submit_executions(self._pool, digest, [_row(request) for request in requests], workflow_id)
        self._push(submitted)
        return submitted

    def submit_named(self, name: str, requests: Sequence[Request]) -> tuple[UUID, list[Submitted]]:
        """The same for a registered workflow's newest version; its id too. Raises NotFound, Disabled."""
        workflow_id, submitted = submit_named(self._pool, name, [_row(request) for request in requests])
        self._push(submitted)
        return workflow_id, submitted

    def _push(self, submitted: Sequence[Submitted]) -> None:
        if self._broker is not None:
            ready = [step for execution in submitted for step in execution.ready]
            push_steps(self._broker, ready, changed=[one.execution_id for one in submitted if one.created])

    def register(self, workflow: Workflow) -> DictRow:
        """Stores a named workflow; the row of its newest version (id, version, enabled, created)."""
        digest = definition_hash(workflow)
        self._register(digest, workflow)
        return register_workflow(self._pool, workflow.name or "", digest, workflow.description)

    def _register(self, digest: str, workflow: Workflow) -> None:
        register_definition(self._pool, digest, stored_definition(workflow), stored_plan(plan(workflow)))
        self._registered.add(digest)


def _row(request: Request) -> dict[str, Any]:
    context = {key: value for key, value in request.context.items() if key != "input"}
    if not isinstance(context.get("variables", {}), Mapping):
        raise InvalidInput("the context's `variables` must be an object")
    return {
        "id": str(request.id),
        "input": request.input,
        "context": context,
        "title": request.title,
        "triggered_by": request.triggered_by,
        "github_run_id": request.github_run_id,
        "idempotency_key": request.idempotency_key,
        "labels": request.labels,
        "request_hash": request.request_hash,
    }
