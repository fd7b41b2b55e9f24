"""Two executions beside each other."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from control_center.api.auth import needs
from control_center.api.problems import Problem, documented
from control_center.show_comparison import ShownComparison, show_comparison
from orchestrator.compare_stored import compare_stored

router = APIRouter(prefix="/api/workflow", tags=["executions"], dependencies=[Depends(needs("viewer"))])


@router.get("/compare", responses=documented("not-found", "archived", "invalid-request"))
def compare_executions(
    request: Request,
    b: UUID,
    a: UUID | None = None,
    previous_good: Annotated[
        bool,
        Query(alias="previousGood", description="Instead of `a`: the newest completed run of its workflow before b"),
    ] = False,
) -> ShownComparison:
    """B as it differs from A: where the two executions first diverge, and in what each step differs."""
    if (a is None) != previous_good:
        raise Problem(
            "invalid-request",
            "give two executions, a and b; or b and previousGood=true",
            errors=[{"pointer": "/query/a", "detail": "either it or previousGood=true"}],
        )
    return show_comparison(compare_stored(request.app.state.read_pool, a, b))
