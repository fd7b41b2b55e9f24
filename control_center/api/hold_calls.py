"""What is not to be called for now: holds on workflows, servers and tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import Field

from control_center.api import shapes
from control_center.api.audit import audit
from control_center.api.auth import Principal, needs
from control_center.api.problems import documented
from control_center.progress import iso
from orchestrator.control import Controller
from persistence.errors import NotFound
from persistence.pool import Pool, run

router = APIRouter(prefix="/api/workflow", tags=["controls"])
Operator = Annotated[Principal, Depends(needs("operator"))]
Kind = Literal["workflow", "server", "tool"]
Name = Annotated[str, Path(min_length=1, max_length=255, description="A tool as SERVER.TOOL")]


class Hold(shapes._Shape):
    """`actor`: who holds it."""

    kind: str
    name: str
    actor: str
    reason: str | None
    created_at: str


class HoldList(shapes._Shape):
    holds: list[Hold]
    total: int


class Reason(shapes._Shape):
    reason: str | None = Field(None, max_length=2000, description="For people")


class Released(shapes._Shape):
    """`waiting`: how many steps waited, and are due now."""

    kind: str
    name: str
    waiting: int


@router.get("/holds", dependencies=[Depends(needs("viewer"))], responses=documented())
def list_holds(request: Request) -> HoldList:
    """What is held, oldest first."""
    rows = run(request.app.state.read_pool, "list_holds")
    return HoldList(holds=[_shape(row) for row in rows], total=len(rows))


@router.put(
    "/holds/{kind}/{name:path}",
    status_code=201,
    responses={
        200: {"model": Hold, "description": "It was held already, and is as it was"},
        **documented(
            "invalid-request",
            "malformed-json",
            "too-deep",
            "not-found",
            "request-timeout",
            "body-too-large",
            "unsupported-media-type",
            "rate-limited",
        ),
    },
)
def hold_calls(
    request: Request, response: Response, kind: Kind, name: Name, principal: Operator, why: Reason | None = None
) -> Hold:
    """No new step of it is begun until it is released; calls that are under way go on."""
    pool: Pool = request.app.state.pool
    controller: Controller = request.app.state.controller
    reason = None if why is None else why.reason
    if controller.hold(kind, name, principal.name, reason):
        audit(pool, principal, f"{kind}.hold", name, {"reason": reason})
    else:
        response.status_code = 200
    found = [row for row in run(pool, "list_holds") if (row["kind"], row["name"]) == (kind, name)]
    if not found:
        raise NotFound(f"the {kind} {name} was released meanwhile")
    return _shape(found[0])


@router.delete("/holds/{kind}/{name:path}", responses=documented("not-found", "invalid-request"))
def release_hold(request: Request, kind: Kind, name: Name, principal: Operator) -> Released:
    """Its steps go on."""
    controller: Controller = request.app.state.controller
    waiting = controller.release(kind, name)
    audit(request.app.state.pool, principal, f"{kind}.release", name, {"waiting": waiting})
    return Released(kind=kind, name=name, waiting=waiting)


def _shape(row: Mapping[str, Any]) -> Hold:
    return Hold(
        kind=row["kind"],
        name=row["name"],
        actor=row["actor"],
        reason=row["reason"],
        created_at=iso(row["created_at"]) or "",
    )
