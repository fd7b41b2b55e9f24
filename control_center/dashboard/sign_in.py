"""Signing in and out: the key goes in once and lives in an HttpOnly cookie, which no page can read."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from control_center.api.auth import COOKIE, Gate, check_origin
from control_center.api.problems import Problem
from control_center.api.sign_in import set_cookie
from control_center.dashboard.pages import Form, go, page, root

router = APIRouter(prefix="/ui", include_in_schema=False)


@router.get("/sign-in")
def show_sign_in(request: Request) -> Response:
    return page(request, "sign_in.html", next=_local(request.query_params.get("next", "")), fault=None)


@router.post("/sign-in")
def sign_in(request: Request, given: Form) -> Response:
    check_origin(request)
    gate: Gate = request.app.state.gate
    after = _local(given.get("next", ""))
    try:
        gate.of_key(given.get("key", "").strip())
    except Problem as problem:
        return page(request, "sign_in.html", 401, next=after, fault=problem.detail)
    response = RedirectResponse(after or f"{root(request)}/ui/executions", 303)
    set_cookie(request, response, given["key"].strip())
    return response


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    check_origin(request)
    response = go(request, "/ui/sign-in")
    response.delete_cookie(COOKIE, path=root(request) or "/")
    return response


def _local(path: str) -> str:
    """A path of this site, or nothing: nobody is sent elsewhere after signing in."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else ""
