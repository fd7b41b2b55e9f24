"""Queues and workers: whether steps get done, by whom, what stands in their way, and what is held back on purpose."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

from fastapi import APIRouter, Request, Response

from control_center.api import hold_calls as api
from control_center.api.hold_calls import Kind
from control_center.api.problems import Problem
from control_center.dashboard.pages import Form, Reader, go, must, page
from control_center.look_at_queues import (
    MOST,
    MOST_A_MINUTE,
    MOST_STUCK,
    MOST_WORKERS,
    OLD_SECONDS,
    SILENT_SECONDS,
    look_at_queues,
)
from persistence.errors import NotFound
from persistence.pool import run

router = APIRouter(include_in_schema=False)
KINDS = ("tool", "server", "workflow")
LIMITS = {
    "counted": MOST,
    "a_minute": MOST_A_MINUTE,
    "stuck": MOST_STUCK,
    "workers": MOST_WORKERS,
    "old": OLD_SECONDS,
    "silent": SILENT_SECONDS,
}


@router.get("/ui/queues")
def show_queues(request: Request, reader: Reader, region: str | None = None) -> Response:
    pool = request.app.state.read_pool
    return page(
        request,
        "queues.html",
        reader=reader,
        look=None if region == "holds" else look_at_queues(pool, request.app.state.broker),
        holds=run(pool, "list_holds"),
        kinds=KINDS,
        limits=LIMITS,
    )


@router.post("/ui/queues/hold")
def hold(request: Request, reader: Reader, given: Form) -> Response:
    must(reader, "operator")
    kind, name = _held(given)
    reason = given.get("reason", "").strip()[:2000] or None
    api.hold_calls(request, Response(), kind, name, reader, api.Reason(reason=reason))
    return go(request, "/ui/queues#holds")


@router.post("/ui/queues/release")
def release(request: Request, reader: Reader, given: Form) -> Response:
    must(reader, "operator")
    kind, name = _held(given)
    with suppress(NotFound):  # somebody else was quicker
        api.release_hold(request, kind, name, reader)
    return go(request, "/ui/queues#holds")


def _held(given: dict[str, str]) -> tuple[Kind, str]:
    kind, name = given.get("kind", ""), given.get("name", "").strip()
    if kind not in KINDS or not 1 <= len(name) <= 255:
        raise Problem(
            "invalid-request", "a hold needs a kind (tool, server, workflow) and a name of at most 255 characters"
        )
    return cast(Kind, kind), name
