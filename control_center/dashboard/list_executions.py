"""Executions: what runs and what came of it, newest first, by what one looks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import model_validator

from control_center.api.read_executions import STATUSES, Filters, find_page
from control_center.dashboard.pages import Reader, address, go, page

router = APIRouter(include_in_schema=False)


@router.get("/")
def begin(request: Request) -> Response:
    return go(request, "/ui/executions")


class Wanted(Filters):
    """A listing's query, and which region of the page. A form sends its empty fields too."""

    region: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value != ""} if isinstance(given, Mapping) else given


@router.get("/ui/executions")
def list_executions(request: Request, reader: Reader, filters: Annotated[Wanted, Query()]) -> Response:
    wanted = Filters(**filters.model_dump(exclude={"region"}))
    rows, cursor = find_page(request.app.state.read_pool, wanted)
    return page(
        request,
        "executions.html",
        reader=reader,
        rows=rows,
        older=cursor and address(request, cursor=cursor),
        filters=wanted,
        statuses=STATUSES,
    )
