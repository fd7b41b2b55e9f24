"""Workflows: what is registered, and how its newest runs went."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from control_center.dashboard.pages import Reader, page
from persistence.pool import run

router = APIRouter(include_in_schema=False)
ROWS = 50
RUNS = 8  # of each


@router.get("/ui/workflows")
def list_workflows(
    request: Request,
    reader: Reader,
    q: Annotated[str, Query(max_length=255)] = "",
    after: Annotated[str, Query(max_length=255)] = "",
) -> Response:
    escaped = q.strip().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    wanted = {"after": after or None, "text": f"%{escaped}%" if escaped else None, "limit": ROWS + 1, "runs": RUNS}
    rows = run(request.app.state.read_pool, "page_workflows", wanted)
    more, rows = len(rows) > ROWS, rows[:ROWS]
    following = rows[-1]["name"] if more else None
    return page(request, "workflows.html", reader=reader, rows=rows, q=q.strip(), following=following, after=after)
