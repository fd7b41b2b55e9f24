"""What every page shares: templates, who reads, regions, headers, forms, and what a fault looks like.

A region is a block of a page's template. The same address with `?region=<block>` answers with that block alone, for the
script to put in the place of the old one.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from control_center.api.auth import Gate, Principal
from control_center.api.problems import PROBLEMS, Problem
from control_center.dashboard.assets import bundle
from control_center.dashboard.words import FILTERS, attributes
from control_center.keys import Role

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
NAVIGATION = (
    ("Executions", "/ui/executions"),
    ("Workflows", "/ui/workflows"),
    ("Tools", "/ui/tools"),
    ("Inbox", "/ui/inbox"),
    ("Analytics", "/ui/analytics"),
    ("Cost", "/ui/costs"),
    ("Queues", "/ui/queues"),
    ("Audit", "/ui/audit"),
)
THEMES = ("light", "dark")
FORM = "application/x-www-form-urlencoded"

_templates = Environment(
    loader=PackageLoader("control_center.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters.update(FILTERS)
_templates.globals.update(attributes=attributes, navigation=NAVIGATION)
_templates.globals["parts"] = _templates.get_template("parts.html").module  # blocks rendered alone see no imports


async def reader(request: Request) -> Principal:
    """Whoever reads the page. Raises Problem; `show_fault` then asks them to sign in."""
    gate: Gate = request.app.state.gate
    return await gate.principal(request)


Reader = Annotated[Principal, Depends(reader)]


def must(principal: Principal, role: Role) -> None:
    """Raises Problem for one who may not do this."""
    if not principal.may(role):
        raise Problem("forbidden", f"this needs the role {role}; {principal.name} has {principal.role}")


def why_not(reader: Principal, role: Role = "operator") -> str | None:
    """Why a button is not for this reader, in words."""
    return None if reader.may(role) else f"it needs the role {role}, and {reader.name} has {reader.role}"


def root(request: Request) -> str:
    """What stands before all of our paths, '' or /prefix."""
    return str(request.scope.get("root_path") or "")


def page(request: Request, template: str, status: int = 200, *, whole: bool = False, **values: Any) -> Response:
    """The page, or (unless `whole`) the region of it that was asked for; 304 if the browser has it as it is. `values` hold
    `reader`, if there is one."""
    loaded = _templates.get_template(template)
    given = {
        "request": request,
        "root": root(request),
        "here": request.url.path,
        "address": address(request),
        "css": bundle("css")[0],
        "js": bundle("js")[0],
        "theme": request.cookies.get("afu9_theme") if request.cookies.get("afu9_theme") in THEMES else None,
        "reader": None,
        **values,
    }
    region = None if whole else request.query_params.get("region")
    if region is None:
        body = loaded.render(given)
    elif region in loaded.blocks:
        body = "".join(loaded.blocks[region](loaded.new_context(given)))
    else:
        raise Problem("not-found", f"the page has no region {region[:100]!r}")
    tag = f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"'
    if status == 200 and request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=HEADERS | {"ETag": tag})
    return HTMLResponse(body, status, HEADERS | {"ETag": tag})


def address(request: Request, **changed: Any) -> str:
    """This page's address with other parameters; None leaves one out. A region is no part of it."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in {"region", *changed}]
    query = urlencode([(name, value) for name, value in (*kept, *changed.items()) if value not in (None, "")])
    return request.url.path + (f"?{query}" if query else "")


def go(request: Request, path: str) -> Response:
    """To another page of ours, after a form."""
    return RedirectResponse(root(request) + path, 303, HEADERS)


async def pairs(request: Request) -> list[tuple[str, str]]:
    """What a form was filled with, field by field. Raises Problem."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        raise Problem("unsupported-media-type", f"a form is sent as {FORM}")
    try:
        text = (await request.body()).decode()
        return parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=2000)
    except ValueError:
        raise Problem("invalid-request", "the form cannot be read") from None


async def form(request: Request) -> dict[str, str]:
    """The same where each name is there once. Raises Problem."""
    return dict(await pairs(request))


Pairs = Annotated[list[tuple[str, str]], Depends(pairs)]
Form = Annotated[dict[str, str], Depends(form)]


def is_page(request: Request) -> bool:
    """Whether a person waits for the answer, rather than a program."""
    path: str = request.scope["path"]
    return path.removeprefix(root(request)).startswith("/ui")


def show_fault(request: Request, problem: Problem) -> Response:
    """A problem as a page. Who has not signed in is asked to, and comes back."""
    status, title = PROBLEMS[problem.slug]
    fragment = "hx-request" in request.headers
    if problem.slug == "unauthenticated":
        there = f"{root(request)}/ui/sign-in?next={quote(address(request), safe='')}"
        if fragment:
            return Response(status_code=204, headers=HEADERS | {"HX-Redirect": there})
        return RedirectResponse(there, 303, HEADERS)
    if fragment:  # the region stays as it is if that may pass; else the page is loaded anew, and tells the fault
        return Response(status_code=204, headers=HEADERS | ({"HX-Refresh": "true"} if status < 500 else {}))
    return page(request, "fault.html", status, whole=True, title=title, problem=problem, code=status)
