"""Holding and releasing workflows, servers and tools by a form, from whichever page shows them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from control_center.api import hold_calls as api
from control_center.api.hold_calls import Kind, Name
from control_center.dashboard.pages import HEADERS, Form, Reader, must, root

router = APIRouter(include_in_schema=False)


@router.post("/ui/holds/{kind}/{name:path}")
def change_hold(request: Request, reader: Reader, kind: Kind, name: Name, given: Form) -> Response:
    must(reader, "operator")
    if given.get("do") == "release":
        api.release_hold(request, kind, name, reader)
    else:
        reason = (given.get("reason") or "").strip()[:2000] or None
        api.hold_calls(request, Response(), kind, name, reader, api.Reason(reason=reason))
    return go_back(request, given.get("back", ""))


def go_back(request: Request, path: str) -> Response:
    """To the page of ours that the form was on."""
    ours = root(request) + "/ui/"
    there = path if path.startswith(ours) and "\\" not in path else ours + "inbox"
    return RedirectResponse(there, 303, HEADERS)
