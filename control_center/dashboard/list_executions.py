"""Executions: what runs and what came of it, newest first, by what one looks for."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from control_center.api.read_executions import STATUSES, Filters, find_page
from control_center.dashboard.pages import Reader, go, page

router = APIRouter(include_in_schema=False)


@router.get("/")
def begin(request: Request) -> Response:
    return go(request, "/ui/executions")


class Wanted(Filters):
    """A listing's query, and which region of the page."""

    region: str | None = None


@router.get("/ui/executions")
def list_executions(request: Request, reader: Reader, filters: Annotated[Wanted, Query()]) -> Response:
    wanted = Filters(**filters.model_dump(exclude={"region"}))
    rows, cursor = find_page(request.app.state.read_pool, wanted)
    return page(request, "executions.html", reader=reader, rows=rows, older=cursor, filters=wanted, statuses=STATUSES)
