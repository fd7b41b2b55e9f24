"""Tools: the MCP servers as a worker last saw them, what each offers, which workflows call it, and what is held."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from control_center.dashboard.pages import Reader, address, page, why_not
from persistence.pool import run

router = APIRouter(include_in_schema=False)
ROWS = 25
WORKFLOWS = 200  # registered ones that are looked through for callers
LONGEST_SCHEMA = 8192  # characters
Text = Annotated[str, Query(max_length=512)]


@router.get("/ui/tools")
def show_tools(request: Request, reader: Reader, q: Text = "", server: Text = "", after: Text = "") -> Response:
    pool = request.app.state.read_pool
    escaped = q.strip().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    after_server, _, after_tool = after.partition(".")
    wanted = {
        "server": server or None,
        "text": f"%{escaped}%" if escaped else None,
        "after_server": after_server or None,
        "after_tool": after_tool,
        "limit": ROWS + 1,
    }
    rows = run(pool, "page_tools", wanted)
    more, rows = len(rows) > ROWS, rows[:ROWS]
    names = [f"{row['server']}.{row['tool']}" for row in rows]
    calling = run(pool, "workflows_calling", {"tools": names, "workflows": WORKFLOWS}) if names else []
    return page(
        request,
        "tools.html",
        reader=reader,
        servers=run(pool, "list_servers"),
        tools=[{**row, "name": name} for row, name in zip(rows, names, strict=True)],
        callers={row["tool"]: row["workflows"] for row in calling},
        workflows=WORKFLOWS,
        held={(one["kind"], one["name"]): one for one in run(pool, "list_holds")},
        shown=shown,
        hints=hints,
        q=q.strip(),
        server=server,
        following=address(request, after=names[-1]) if more else None,
        back=address(request),
        why_not=why_not(reader),
    )


def shown(schema: Any) -> tuple[str, int]:
    """A schema as text, cut, and how long all of it is. What a tool says of itself holds no secrets."""
    text = json.dumps(schema, indent=2, ensure_ascii=False)
    return text[:LONGEST_SCHEMA], len(text)


def hints(annotations: Any, repeatable: bool) -> list[str]:
    """What the annotations say, in words; an absent one says nothing."""
    given = annotations if isinstance(annotations, dict) else {}
    told = [
        words[0] if given[name] else words[1]
        for name, words in HINTS.items()
        if isinstance(given.get(name), bool) and not (name == "destructiveHint" and given.get("readOnlyHint") is True)
    ]
    return [*told, "may be called again" if repeatable else "not called again if its outcome is unknown"]


HINTS = {
    "readOnlyHint": ("reads only", "changes things"),
    "destructiveHint": ("may destroy", "does not destroy"),
    "idempotentHint": ("twice is as once", "twice is not as once"),
    "openWorldHint": ("reaches the outside", "stays inside"),
}
