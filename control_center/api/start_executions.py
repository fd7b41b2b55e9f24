"""Starts executions over HTTP: one statement writes an execution with its steps, and the key that makes a repetition safe.

Invariant: the answer to a repeated request with the same `Idempotency-Key` is the first one's, and one execution exists;
the same key with another request changes nothing and is told so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response

from control_center.api import shapes
from control_center.api.audit import audit
from control_center.api.auth import ANONYMOUS, Principal, needs
from control_center.api.problems import Problem, documented
from control_center.find_workflow import find_workflow
from control_center.list_tools import tool_schemas
from orchestrator import submit
from orchestrator.definition import Workflow
from orchestrator.plan import definition_hash
from orchestrator.validate import validate
from persistence.errors import Disabled
from persistence.pool import Pool, run
from persistence.transitions import Submitted

router = APIRouter(prefix="/api/workflow", tags=["executions"])
Starter = Annotated[Principal, Depends(needs("submitter"))]
Started: TypeAlias = shapes.Accepted | shapes.DryRun
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]
FAULTS = documented(
    "malformed-json",
    "too-deep",
    "not-found",
    "workflow-disabled",
    "request-timeout",
    "body-too-large",
    "unsupported-media-type",
    "invalid-request",
    "invalid-definition",
    "idempotency-mismatch",
    "rate-limited",
)
ANSWERS: dict[int | str, dict[str, Any]] = {200: {"model": shapes.DryRun, "description": "A dry run"}, **FAULTS}


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be run: a registered workflow by its name, or a definition that came along."""

    name: str | None = None
    workflow: Workflow | None = None


@router.post("/executions", status_code=202, response_model=Started, responses=ANSWERS)
@router.post("/execute", status_code=202, response_model=Started, responses=ANSWERS, operation_id="execute")
def start_execution(request: Request, wish: shapes.Submission, principal: Starter, key: Key = None) -> Response:
    """Starts an execution of a registered workflow, or of a definition that comes along. `execute` is the original's name."""
    if wish.dry_run:
        target, _, _ = _understood(request, wish)
        return _written(_dry_run(request.app.state.pool, target), 200)
    accepted, created = begin_execution(request, wish, principal, key)
    answer = _written(accepted, 202)
    answer.headers["Location"] = accepted.url
    if not created:
        answer.headers["Idempotency-Replayed"] = "true"
    return answer


def begin_execution(
    request: Request, wish: shapes.Submission, principal: Principal, key: str | None
) -> tuple[shapes.Accepted, bool]:
    """What a page does as well; whether the execution is new. Raises Problem, NotFound, InvalidInput, Disabled."""
    target, given, context = _understood(request, wish)
    wanted = submit.Request(
        input=given,
        context=context,
        title=wish.title,
        triggered_by=wish.triggered_by or principal.name,
        github_run_id=wish.github_run_id,
        idempotency_key=key,
        labels=wish.labels,
        request_hash=_hash(target, wish.model_dump()) if key is not None else None,
    )
    workflow_id, (submitted,) = _submit(request, target, [wanted], principal)
    return _accepted(submitted, workflow_id), submitted.created


def _understood(request: Request, wish: shapes.Submission) -> tuple[Target, dict[str, Any], dict[str, Any]]:
    """What is to be run, with which input, in which context."""
    context = {name: value for name, value in wish.context.items() if name != "input"}
    given = wish.input if wish.input is not None else wish.context.get("input", {})
    if not isinstance(given, dict) or not isinstance(context.get("variables", {}), dict):
        raise Problem("invalid-request", "`input` and `variables` of the context must be objects")
    names = {"input", *context, *context.get("variables", {})}
    return _target(request, wish.workflow, wish.definition, names), given, context


@router.post("/executions/batch", status_code=202, responses=FAULTS)
def start_executions(request: Request, batch: shapes.Batch, principal: Starter) -> shapes.AcceptedBatch:
    """Starts up to 1,000 executions of one workflow in one transaction; each may have an idempotency key of its own."""
    keys: set[str] = {"input"}
    keys.update(*({*one.context, *_variables(one.context)} for one in batch.requests))
    target = _target(request, batch.workflow, batch.definition, keys)
    wanted = [
        submit.Request(
            input=one.input,
            context=one.context,
            title=one.title,
            triggered_by=principal.name,
            idempotency_key=one.idempotency_key,
            labels=one.labels,
            request_hash=_hash(target, one.model_dump()) if one.idempotency_key is not None else None,
        )
        for one in batch.requests
    ]
    workflow_id, submitted = _submit(request, target, wanted, principal)
    accepted = [_accepted(one, workflow_id) for one in submitted]
    return shapes.AcceptedBatch(executions=accepted, total=len(accepted))


def _variables(context: Mapping[str, Any]) -> Mapping[str, Any]:
    variables = context.get("variables", {})
    if not isinstance(variables, dict):
        raise Problem("invalid-request", "`variables` of the context must be an object")
    return variables


def _target(
    request: Request, workflow: str | dict[str, Any] | None, definition: dict[str, Any] | None, keys: set[str]
) -> Target:
    if (workflow is None) == (definition is None):
        raise Problem("invalid-request", "give `workflow` (a name) or `definition`, and not both")
    if isinstance(workflow, str):
        return Target(name=workflow)
    given = definition if definition is not None else workflow
    return Target(workflow=validate(given, context_keys=keys, tools=tool_schemas(request.app.state.pool)))


def _submit(
    request: Request, target: Target, wanted: list[submit.Request], principal: Principal
) -> tuple[UUID | None, list[Submitted]]:
    submitter: submit.Submitter = request.app.state.submitter
    workflow_id: UUID | None = None
    if target.workflow is not None:
        submitted = submitter.submit(target.workflow, wanted)
    else:
        workflow_id, submitted = submitter.submit_named(target.name or "", wanted)
    pool: Pool = request.app.state.pool
    _refuse_mismatch(pool, wanted, submitted)
    started = [str(one.execution_id) for one in submitted if one.created]
    if started and principal is not ANONYMOUS:  # whose name would tell nothing that the rows do not
        audit(pool, principal, "execution.start", target.name, {"executions": started})
    return workflow_id, submitted


def _refuse_mismatch(pool: Pool, wanted: list[submit.Request], submitted: list[Submitted]) -> None:
    """A key that was used before must have come with the same request."""
    repeated = {one.execution_id: ask for ask, one in zip(wanted, submitted, strict=True) if not one.created}
    if not repeated:
        return
    hashes = {row["id"]: row["request_hash"] for row in run(pool, "request_hashes", {"ids": list(repeated)})}
    for execution_id, ask in repeated.items():
        if hashes.get(execution_id) not in (None, ask.request_hash):
            raise Problem(
                "idempotency-mismatch",
                f"the key {ask.idempotency_key!r} started {execution_id} with another request; that one stands",
            )


def _hash(target: Target, asked: Mapping[str, Any]) -> str:
    digest = definition_hash(target.workflow) if target.workflow is not None else None
    same = json.dumps([digest, target.name, asked], sort_keys=True)
    return hashlib.sha256(same.encode()).hexdigest()


def _written(answer: Started, status: int) -> Response:
    """Written here: FastAPI would take a second thread to check what a plain function returns."""
    return Response(answer.model_dump_json(by_alias=True), status, media_type="application/json")


def _accepted(submitted: Submitted, workflow_id: UUID | None) -> shapes.Accepted:
    return shapes.Accepted(
        execution_id=str(submitted.execution_id),
        trace_id=submitted.execution_id.hex,
        workflow_id=None if workflow_id is None else str(workflow_id),
        url=f"/api/workflow/execution/{submitted.execution_id}",
    )


def _dry_run(pool: Pool, target: Target) -> shapes.DryRun:
    row = find_workflow(pool, target.name) if target.name is not None else None
    if row is not None and not row["enabled"]:
        raise Disabled(f"{target.name} is disabled: nothing would be started")
    if target.workflow is not None:
        definition = target.workflow.model_dump(by_alias=True, exclude_unset=True)
    else:
        definition = json.loads(row["definition"]) if row is not None else {}
    known = {f"{row['server']}.{row['tool']}": row for row in run(pool, "list_tools", {"server": None})}
    steps = []
    for index, step in enumerate(definition["steps"]):
        tool = known.get(step["tool"])
        annotations = (tool or {}).get("annotations") or {}
        repeatable = step.get("idempotent", tool["repeatable"] if tool else None)
        destructive = not annotations["readOnlyHint"] if "readOnlyHint" in annotations else None
        steps.append(
            shapes.CalledTool(
                step=step["name"],
                index=index,
                tool=step["tool"],
                condition=step.get("if", step.get("condition")),
                known=tool is not None,
                repeatable=repeatable,
                destructive=annotations.get("destructiveHint", destructive),
            )
        )
    return shapes.DryRun(workflow_id=None if row is None else str(row["id"]), steps=steps)
