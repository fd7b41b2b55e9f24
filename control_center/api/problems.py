"""What an error looks like: RFC 9457 problems with stable types, and the `error` and `message` keys of the original.

Every type is in PROBLEMS and in docs/api.md; a client may match on `type`, never on the words.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from persistence.errors import (
    Afu9Error,
    Archived,
    Disabled,
    InvalidDefinition,
    InvalidInput,
    NotFound,
    Refused,
    TooSlow,
    Unreachable,
)

log = logging.getLogger(__name__)
TYPE = "https://afu9.dev/problems/"
PROBLEMS: dict[str, tuple[int, str]] = {
    "malformed-json": (400, "The body is not JSON"),
    "too-deep": (400, "The body is nested too deeply"),
    "unknown-parameter": (400, "The query has a parameter that is not known here"),
    "foreign-cursor": (400, "The cursor belongs to another listing"),
    "unauthenticated": (401, "A key is needed"),
    "forbidden": (403, "The key's role does not allow this"),
    "foreign-origin": (403, "The request comes from another site"),
    "not-found": (404, "There is no such thing"),
    "method-not-allowed": (405, "The address does not take this method"),
    "request-timeout": (408, "The request did not arrive in time"),
    "archived": (410, "It was moved into an archive"),
    "workflow-disabled": (409, "The workflow is disabled"),
    "action-refused": (409, "It does not take this as it stands"),
    "body-too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body must be application/json"),
    "invalid-request": (422, "The request has faults"),
    "invalid-definition": (422, "The definition has faults"),
    "idempotency-mismatch": (422, "The idempotency key was used with another request"),
    "rate-limited": (429, "Too many requests"),
    "internal": (500, "A fault of ours"),
    "query-too-broad": (503, "The query took too long"),
    "too-many-readers": (503, "Too many follow live updates here"),
    "database-away": (503, "The database does not answer"),
}


class Problem(Exception):
    """An answer that is a problem. `errors`: [{"pointer", "detail"}], pointers into the body (RFC 6901)."""

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ):
        self.slug = slug
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extra = extra
        super().__init__(detail)

    def response(self) -> JSONResponse:
        status, title = PROBLEMS[self.slug]
        body = {
            "type": TYPE + self.slug,
            "title": title,
            "status": status,
            "detail": self.detail,
            "error": title,
            "message": self.detail,
            **({"errors": self.errors} if self.errors else {}),
            **self.extra,
        }
        return JSONResponse(body, status, self.headers, media_type="application/problem+json")


def problem_of(error: Exception) -> Problem:
    """Our errors as problems."""
    match error:
        case Problem():
            return error
        case InvalidDefinition(faults=faults):
            listed = [{"pointer": fault.pointer, "detail": fault.message, "hint": fault.hint} for fault in faults]
            return Problem("invalid-definition", f"{len(faults)} faults, each with its place", errors=listed)
        case InvalidInput():
            return Problem("invalid-request", str(error))
        case Refused(status=""):  # no execution's
            return Problem("action-refused", str(error))
        case Refused(status=status, allowed=allowed):
            return Problem("action-refused", str(error), executionStatus=status, allowedActions=list(allowed))
        case Disabled():
            return Problem("workflow-disabled", str(error))
        case Archived():
            return Problem("archived", str(error))
        case NotFound():
            return Problem("not-found", str(error))
        case TooSlow():
            return Problem("query-too-broad", "narrow it: a shorter time, a status, a workflow", headers=SOON)
        case Unreachable():
            return Problem("database-away", "nothing was changed that was not answered", headers=SOON)
        case RequestValidationError():
            return _of_validation(error)
        case HTTPException(status_code=status, detail=detail):
            slugs = {401: "unauthenticated", 403: "forbidden", 404: "not-found", 405: "method-not-allowed"}
            slugs |= {415: "unsupported-media-type", 413: "body-too-large"}
            headers = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
            return Problem(slugs.get(status, "invalid-request"), str(detail), headers=headers)
    return Problem("internal", "it is in the log of the API")


SOON = {"Retry-After": "2"}


def _of_validation(error: RequestValidationError) -> Problem:
    faults = error.errors()
    if any(fault["type"] == "json_invalid" for fault in faults):
        return Problem("malformed-json", str(faults[0]["msg"]))
    listed = [{"pointer": _pointer(fault["loc"]), "detail": fault["msg"]} for fault in faults]
    if any(fault["type"] == "extra_forbidden" and fault["loc"][0] == "query" for fault in faults):
        return Problem("unknown-parameter", ", ".join(str(fault["loc"][-1]) for fault in faults), errors=listed)
    return Problem(
        "invalid-request", "; ".join(f"{one['pointer']}: {one['detail']}" for one in listed)[:500], errors=listed
    )


def _pointer(location: Sequence[Any]) -> str:
    """Into the body; a query's or a path's parameter by its name."""
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in location]
    return "/" + "/".join(parts[1:] if parts[:1] == ["body"] else parts)


def install(app: FastAPI, show: Callable[[Request, Problem], Response | None]) -> None:
    """All errors of the app become problems. `show` may show one in its own way."""

    def answer(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        if problem.slug == "internal":
            request_id = secrets.token_hex(4)
            log.error("request %s: %s %s failed", request_id, request.method, request.url.path, exc_info=error)
            problem = Problem("internal", f"it is in the log of the API as request {request_id}")
        return show(request, problem) or problem.response()

    for kind in (Problem, Afu9Error, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


EVERYWHERE = (
    "unknown-parameter",
    "unauthenticated",
    "forbidden",
    "foreign-origin",
    "query-too-broad",
    "database-away",
)


def documented(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route, for OpenAPI."""
    found: dict[int | str, dict[str, Any]] = {}
    for slug in (*slugs, *EVERYWHERE):
        status, title = PROBLEMS[slug]
        entry = found.setdefault(
            status, {"description": title, "content": {"application/problem+json": {"schema": REFERENCE}}}
        )
        if title not in entry["description"]:
            entry["description"] += f"; or: {title.lower()}"
    return found


def describe(app: FastAPI) -> None:
    """Adds the problem to the document's schemas, once for all routes. One thread makes the document: pydantic's warnings are
    silenced meanwhile, for the whole process."""
    made, lock = app.openapi, Lock()

    def document() -> dict[str, Any]:
        with lock:
            described = made()
            described.setdefault("components", {}).setdefault("schemas", {})["Problem"] = SCHEMA
            return described

    app.openapi = document  # type: ignore[method-assign]


REFERENCE = {"$ref": "#/components/schemas/Problem"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "error", "message"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "error": {"type": "string"},
        "message": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
        "executionStatus": {"type": "string", "description": "Of action-refused: how the execution stands"},
        "allowedActions": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Of action-refused: what the execution takes instead",
        },
    },
}
