"""The one stylesheet and the one script: the files of styles/ and of scripts/, each in the order of their names, after what
is vendored. Their address holds their hash, so that a browser asks once and a new version never meets an old file.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import Literal

from fastapi import APIRouter, Request, Response

from control_center.api.problems import Problem

router = APIRouter(prefix="/ui/assets", include_in_schema=False)
KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="4" fill="#2456c8"/>'
    '<path d="M3 8h2.5l2-4 2 8 1.5-4H13" fill="none" stroke="#fff" stroke-width="1.5"/></svg>'
)
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


@cache
def bundle(kind: Literal["css", "js"]) -> tuple[str, bytes, bytes]:
    """Its file name, its content, and the same compressed."""
    folders = ("styles",) if kind == "css" else ("vendored", "scripts")
    found = [
        one
        for folder in folders
        for one in sorted(files(__package__).joinpath(folder).iterdir(), key=lambda one: one.name)
        if one.name.endswith(f".{kind}")
    ]
    content = b"\n".join(one.read_bytes() for one in found)
    name = f"dashboard-{hashlib.sha256(content).hexdigest()[:16]}.{kind}"
    return name, content, gzip.compress(content, mtime=0)


@router.get("/icon.svg")
def get_icon() -> Response:
    return Response(ICON, headers={"Cache-Control": "public, max-age=86400"}, media_type="image/svg+xml")


@router.get("/{name}")
def get_asset(request: Request, name: str) -> Response:
    kind = "css" if name.endswith(".css") else "js"
    known, content, packed = bundle(kind)
    if name != known:
        raise Problem("not-found", "load the page again: it is of another version")
    headers = FOREVER | {"Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=KINDS[kind])
    return Response(content, headers=headers, media_type=KINDS[kind])
