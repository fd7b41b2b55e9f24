"""Signing in from a browser: the key goes in once and lives in an HttpOnly cookie, which no page can read."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import Field

from control_center.api.auth import COOKIE, Gate, check_origin
from control_center.api.problems import documented
from control_center.api.shapes import _Shape

router = APIRouter(prefix="/api", tags=["session"])
COOKIE_SECONDS = 7 * 86_400
FAULTS = documented("invalid-request", "malformed-json", "unauthenticated", "foreign-origin", "rate-limited")


class SignIn(_Shape):
    key: str = Field(min_length=1, max_length=200)


class Session(_Shape):
    name: str
    role: str


@router.post("/session", responses=FAULTS)
def sign_in(request: Request, response: Response, given: SignIn) -> Session:
    """Sets the cookie if the key is good."""
    check_origin(request)
    gate: Gate = request.app.state.gate
    principal = gate.of_key(given.key)
    set_cookie(request, response, given.key)
    return Session(name=principal.name, role=principal.role)


def set_cookie(request: Request, response: Response, key: str) -> None:
    """Signs the browser in that asks."""
    response.set_cookie(
        COOKIE,
        key,
        max_age=COOKIE_SECONDS,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
        path=request.scope.get("root_path") or "/",
    )


@router.get("/session", responses=documented("unauthenticated"))
async def session(request: Request) -> Session:
    """Who asks."""
    gate: Gate = request.app.state.gate
    principal = await gate.principal(request)
    return Session(name=principal.name, role=principal.role)


@router.delete("/session", status_code=204, responses=documented("foreign-origin"))
def sign_out(request: Request, response: Response) -> None:
    """Takes the cookie back."""
    check_origin(request)
    response.delete_cookie(COOKIE, path=request.scope.get("root_path") or "/")
