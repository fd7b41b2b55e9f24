"""Starts executions: one statement writes an execution and all of its steps, for one request or for thousands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

from psycopg.rows import DictRow

from orchestrator import trace
from orchestrator.broker import StepBroker
from orchestrator.definition import Workflow
from orchestrator.metrics import EXECUTIONS_STARTED
from orchestrator.plan import UNNAMED, definition_hash, plan, stored_definition, stored_plan
from orchestrator.push import push_steps
from persistence.errors import InvalidInput, Unreachable
from persistence.gather import Gather
from persistence.ids import time_ordered_uuid
from persistence.pool import Pool
from persistence.transitions import Submitted, register_definition, register_workflow, submit_executions, submit_named

Answer = TypeVar("Answer")


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
        self._gathered = lru_cache(maxsize=64)(self._gather)
        self._named = lru_cache(maxsize=64)(self._gather_named)

    def submit(
        self, workflow: Workflow, requests: Sequence[Request], workflow_id: UUID | None = None
    ) -> list[Submitted]:
        """One execution per request, in order. Raises InvalidJson, Unreachable."""
        digest = definition_hash(workflow)
        if digest not in self._registered:
            self._register(digest, workflow)
        return self.submit_stored(digest, requests, workflow_id, name=workflow.name)

    def submit_stored(
        self, digest: str, requests: Sequence[Request], workflow_id: UUID | None = None, *, name: str | None = None
    ) -> list[Submitted]:
        """The same for a definition that the database has, of this name. Single requests of many threads are submitted
        together."""
        rows = _rows(requests)
        if len(rows) == 1:
            return _counted(name, [self._gathered(digest, workflow_id)(rows[0])])
        return _counted(name, self._submit(digest, workflow_id, rows))

    def _submit(self, digest: str, workflow_id: UUID | None, rows: Sequence[dict[str, Any]]) -> list[Submitted]:
        submitted = submit_executions(self._pool, digest, rows, workflow_id)
        self._push(submitted)
        return submitted

    def _gather(self, digest: str, workflow_id: UUID | None) -> Gather[dict[str, Any], Submitted]:
        return _gather(lambda rows: self._submit(digest, workflow_id, rows))

    def submit_named(self, name: str, requests: Sequence[Request]) -> tuple[UUID, list[Submitted]]:
        """The same for a registered workflow's newest version; its id too. Raises NotFound, Disabled."""
        rows = _rows(requests)
        if len(rows) == 1:
            workflow_id, submitted = self._named(name)(rows[0])
            return workflow_id, _counted(name, [submitted])
        workflow_id, several = self._submit_named(name, rows)
        return workflow_id, _counted(name, several)

    def _submit_named(self, name: str, rows: Sequence[dict[str, Any]]) -> tuple[UUID, list[Submitted]]:
        workflow_id, submitted = submit_named(self._pool, name, rows)
        self._push(submitted)
        return workflow_id, submitted

    def _gather_named(self, name: str) -> Gather[dict[str, Any], tuple[UUID, Submitted]]:
        def together(rows: Sequence[dict[str, Any]]) -> list[tuple[UUID, Submitted]]:
            workflow_id, submitted = self._submit_named(name, rows)
            return [(workflow_id, one) for one in submitted]

        return _gather(together)

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


def _counted(workflow: str | None, submitted: list[Submitted]) -> list[Submitted]:
    if created := sum(one.created for one in submitted):
        EXECUTIONS_STARTED.add(created, workflow or UNNAMED)
    return submitted


def _gather(together: Callable[[Sequence[dict[str, Any]]], list[Answer]]) -> Gather[dict[str, Any], Answer]:
    """Where PostgreSQL is away for all, nobody tries alone."""

    def alone(row: dict[str, Any], error: Exception) -> Answer:
        if isinstance(error, Unreachable):
            raise error
        return together([row])[0]

    return Gather(together, alone, key=lambda row: str(row["id"]))


def _rows(requests: Sequence[Request]) -> list[dict[str, Any]]:
    if trace.on is not None:
        trace.on.submitting([request.id for request in requests])
    return [_row(request) for request in requests]


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
