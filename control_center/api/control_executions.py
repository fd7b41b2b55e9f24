"""Controls of one execution over HTTP: what an operator does with it, and what that would mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from control_center.api import shapes
from control_center.api.audit import audit
from control_center.api.auth import Principal, needs
from control_center.api.problems import Problem, documented
from control_center.read_control import read_control
from orchestrator.control import Controller, Done, Preview
from persistence.pool import Pool

router = APIRouter(prefix="/api/workflow", tags=["controls"])
Operator = Annotated[Principal, Depends(needs("operator"))]
Action = Literal[
    "pause", "resume", "cancel", "retry", "rerun", "skip", "set-output", "decide", "fork", "replay", "fail"
]  # `fail` is what a decision `fail` was called before
FROM_STEP = ("retry", "rerun", "fork")
FAULTS = documented(
    "malformed-json",
    "too-deep",
    "not-found",
    "archived",
    "action-refused",
    "workflow-disabled",
    "request-timeout",
    "body-too-large",
    "unsupported-media-type",
    "invalid-request",
    "invalid-definition",
    "rate-limited",
)


class Control(shapes._Shape):
    """All of it optional, and each for some actions only: docs/controls.md."""

    reason: str | None = Field(None, max_length=2000, description="For people: it stands in the history")
    step: str | None = Field(None, max_length=255, description="A step's name or index")
    from_step: str | None = Field(None, max_length=255, description="The same, for retry, rerun and fork")
    input: shapes.Json | None = Field(None, description="Params instead of the definition's; a fork's input")
    output: Any = Field(None, description="Of set-output, and of a decision `done`; null counts as given")
    variables: shapes.Json | None = Field(None, description="Of a fork: instead of what was assigned")
    workflow: str | None = Field(None, max_length=255, description="Of a fork: a registered workflow's newest version")
    definition: shapes.Json | None = Field(None, description="Of a fork: another definition")
    decision: Literal["retry", "done", "skip", "fail"] | None = Field(
        None, description="Of decide: what is to become of a step whose outcome nobody knows"
    )
    dry_run: bool = Field(False, description="Change nothing; answer what it would do")


class ControlledTool(shapes._Shape):
    """`changes`: whether the tool changes things; null if the catalogue does not say. `conditional`: called only if its
    step's condition holds."""

    step: str
    index: int
    tool: str
    changes: bool | None
    conditional: bool


class ControlPreview(shapes._Shape):
    """`reused` and `replaced`: steps whose results stay, and those whose results are replaced (and kept in the history)."""

    dry_run: Literal[True] = True
    execution_id: str
    action: str
    status: str
    allowed_actions: list[str]
    reused: list[str]
    replaced: list[str]
    calls: list[ControlledTool]


class Controlled(shapes._Shape):
    """Of fork and replay the new execution, else the one that was asked for, as it stands now."""

    execution_id: str
    action: str
    status: str
    allowed_actions: list[str]
    url: str


ANSWERS: dict[int | str, dict[str, Any]] = {200: {"model": ControlPreview, "description": "A dry run"}, **FAULTS}


@router.post("/execution/{execution_id}/{action}", status_code=202, responses=ANSWERS)
def control_execution(
    request: Request,
    response: Response,
    execution_id: UUID,
    action: Action,
    principal: Operator,
    control: Control | None = None,
) -> Controlled | ControlPreview:
    """Pauses, resumes, cancels, retries …, or says with `dryRun` what that would do. Refused (409) if the execution does not
    take it as it stands; then nothing was changed."""
    pool: Pool = request.app.state.pool
    controller: Controller = request.app.state.controller
    given = _given(action, control) if control is not None else {}
    if control is not None and control.dry_run:
        response.status_code = 200
        wish = read_control(pool, execution_id, action, given, principal.name)
        return _preview(controller.preview(execution_id, wish))
    done = carry_out(request, principal, execution_id, action, given)
    url = f"/api/workflow/execution/{done.execution_id}"
    if done.execution_id != execution_id:
        response.headers["Location"] = url
    return Controlled(
        execution_id=str(done.execution_id),
        action=done.action,
        status=done.status,
        allowed_actions=list(done.allowed),
        url=url,
    )


def carry_out(
    request: Request, principal: Principal, execution_id: UUID, action: str, given: Mapping[str, Any]
) -> Done:
    """Carries out what somebody may ask for, and notes it in the audit log. `given`: as read_control takes it."""
    pool: Pool = request.app.state.pool
    controller: Controller = request.app.state.controller
    done = controller.carry_out(execution_id, read_control(pool, execution_id, action, given, principal.name))
    said = {name: given[name] for name in ("reason", "step", "decision", "workflow") if given.get(name) is not None}
    made = {"made": str(done.execution_id)} if done.execution_id != execution_id else {}
    audit(pool, principal, f"execution.{action}", str(execution_id), said | made)
    return done


def _given(action: str, control: Control) -> dict[str, Any]:
    given = control.model_dump(exclude_unset=True, exclude={"dry_run"})
    begin = given.pop("from_step", None)
    if begin is not None:
        if action not in FROM_STEP or given.get("step") is not None:
            told = f"`fromStep` is another word for `step`, of {', '.join(FROM_STEP)}"
            raise Problem("invalid-request", told, errors=[{"pointer": "/fromStep", "detail": "it is not for this"}])
        given["step"] = begin
    return given


def _preview(found: Preview) -> ControlPreview:
    return ControlPreview(
        execution_id=str(found.execution_id),
        action=found.action,
        status=found.status,
        allowed_actions=list(found.allowed),
        reused=list(found.reused),
        replaced=list(found.replaced),
        calls=[ControlledTool(**asdict(call)) for call in found.calls],
    )
