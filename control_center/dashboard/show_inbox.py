"""Inbox: what waits for a person. Steps whose outcome nobody knows, executions that are paused, and what is held."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from control_center.dashboard.pages import Reader, page, why_not
from persistence.pool import run

router = APIRouter(include_in_schema=False)
ROWS = 50  # of each kind
CANDIDATES = 500  # steps that are looked at, the newest


@router.get("/ui/inbox")
def show_inbox(request: Request, reader: Reader) -> Response:
    pool = request.app.state.read_pool
    steps = run(pool, "undecided_steps", {"candidates": CANDIDATES, "limit": ROWS + 1})
    paused = run(pool, "paused_executions", {"limit": ROWS + 1})
    return page(
        request,
        "inbox.html",
        reader=reader,
        steps=steps[:ROWS],
        paused=paused[:ROWS],
        more_steps=len(steps) > ROWS,
        more_paused=len(paused) > ROWS,
        rows=ROWS,
        holds=run(pool, "list_holds"),
        why_not=why_not(reader),
    )
