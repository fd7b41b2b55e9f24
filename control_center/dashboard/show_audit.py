"""Audit: who changed what, newest first. The log is only ever added to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from control_center.dashboard.pages import Reader, page
from persistence.pool import Pool, run

router = APIRouter(prefix="/ui/audit", include_in_schema=False)
ROWS = 50
Text = Annotated[str, Query(max_length=255)]
Kind = Literal["execution", "workflow", "job"]


@router.get("")
def show_audit(
    request: Request,
    reader: Reader,
    principal: Text = "",
    action: Text = "",
    target: Text = "",
    before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
) -> Response:
    pool: Pool = request.app.state.read_pool
    given = {"principal": principal.strip(), "action": action.strip(), "target": target.strip()}
    said = {name: value for name, value in given.items() if value}
    parameters = {name: value or None for name, value in given.items()} | {"before": before, "limit": ROWS + 1}
    rows = run(pool, "page_audit", parameters, prepare=False)
    more, rows = len(rows) > ROWS, rows[:ROWS]
    return page(
        request,
        "audit.html",
        reader=reader,
        rows=[{**row, "kind": _kind(row)} for row in rows],
        given=given,
        chips=[
            (f"{name}: {value}", urlencode({other: one for other, one in said.items() if other != name}))
            for name, value in said.items()
        ],
        older=urlencode({**said, "before": rows[-1]["id"]}) if more else None,
        first=before is None,
        newest=urlencode(said),
    )


def _kind(row: Mapping[str, Any]) -> Kind | None:
    """What the target is, where there is a page of it."""
    noun = row["action"].partition(".")[0]
    if row["target"] is None or noun not in ("execution", "executions", "job", "workflow"):
        return None
    if row["action"] == "execution.start" or noun == "workflow":
        return "workflow"
    return "execution" if noun == "execution" else "job"
