"""The tools a server offers: every page of tools/list, kept for as long as the server says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from workers.mcp_client.failures import trouble
from workers.mcp_client.parameter_headers import Path, marked

_MAX_PAGES = 200
_LONGEST_SECONDS = 300.0
_SHORTEST_SECONDS = (
    30.0  # a shorter wish would double every call; a stale header mark is repaired when the server objects
)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Tools as the server described them, and the header marks of those that have any."""

    tools: tuple[dict[str, Any], ...]
    marks: dict[str, dict[Path, str]] = field(default_factory=dict)
    fresh_until: float = 0.0

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() < self.fresh_until


def read_catalogue(ask: Callable[[dict[str, Any]], Any], where: str, *, with_marks: bool) -> Catalogue:
    """Read all pages through `ask(params) -> result`. `with_marks`: drop tools whose header marks are not valid."""
    tools: dict[str, dict[str, Any]] = {}
    marks: dict[str, dict[Path, str]] = {}
    fresh, params = _LONGEST_SECONDS, dict[str, Any]()
    for _ in range(_MAX_PAGES):
        result = ask(params)
        page = result.get("tools") if isinstance(result, dict) else None
        if not isinstance(page, list):
            raise trouble("invalid_response", f"{where} answered tools/list without a list of tools")
        for tool in page:
            if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
                continue
            try:
                found = marked(tool.get("inputSchema")) if with_marks else {}
            except ValueError:
                continue
            tools[tool["name"]] = tool
            if found:
                marks[tool["name"]] = found
        ttl = result.get("ttlMs")
        if isinstance(ttl, int | float):
            fresh = min(fresh, max(float(ttl) / 1000, _SHORTEST_SECONDS))
        cursor = result.get("nextCursor")
        if not isinstance(cursor, str) or cursor == params.get("cursor"):
            return Catalogue(tuple(tools.values()), marks, time.monotonic() + fresh)
        params = {"cursor": cursor}
    raise trouble("invalid_response", f"{where} never ends its list of tools (more than {_MAX_PAGES} pages)")
