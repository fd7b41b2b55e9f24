"""What was spent, from the daily sums alone."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request

from control_center.api.auth import needs
from control_center.api.problems import documented
from control_center.api.shapes import _Shape
from control_center.sum_costs import cost_object
from persistence.pool import run

router = APIRouter(prefix="/api/workflow", tags=["costs"], dependencies=[Depends(needs("viewer"))])
Kind = Literal["workflow", "server", "tool", "day"]


class CostSum(_Shape):
    """`costUsd`: US dollars, a decimal text. `calls`: attempts that were counted; `unpricedCalls`: those of them whose price
    is not known."""

    cost_usd: str
    calls: int
    unpriced_calls: int


class Cost(CostSum):
    """`name`: of the workflow (empty: it has none), the server, the tool, or the UTC day."""

    name: str


class CostList(_Shape):
    days: int
    by: Kind
    costs: list[Cost]
    total: CostSum


@router.get("/cost", responses=documented("invalid-request"))
def sum_costs(
    request: Request,
    window: Annotated[str, Query(pattern=r"^[1-9][0-9]{0,2}d$", description="UTC days, today included")] = "30d",
    by: Kind = "workflow",
) -> CostList:
    """What calls cost."""
    days = int(window[:-1])
    rows = run(request.app.state.read_pool, "sum_costs", {"days": days, "by": by})
    return CostList.model_validate(cost_object(rows, days, by))
