"""A query may hold what its route knows, and nothing else: a misspelt filter must not answer with everything."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from starlette.requests import HTTPConnection

from control_center.api.problems import Problem


async def refuse_unknown_parameters(connection: HTTPConnection) -> None:
    """A dependency of the whole application: what the document names is known; pages are not in it. Raises Problem."""
    if connection.scope["query_string"] and connection.scope["type"] == "http":
        await anyio.to_thread.run_sync(_refuse, connection)  # the first to come has the document made


def _refuse(connection: HTTPConnection) -> None:
    route = connection.scope["route"]
    if not route.include_in_schema:
        return
    paths: dict[str, dict[str, Any]] = connection.app.openapi()["paths"]
    operation = paths.get(route.path_format, {}).get(connection.scope["method"].lower())
    if operation is None:
        return
    known = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
    if unknown := sorted(set(connection.query_params) - known):
        listed = [{"pointer": f"/query/{name}", "detail": "it is not known here"} for name in unknown]
        told = f"it knows {', '.join(sorted(known))}" if known else "it knows none"
        raise Problem("unknown-parameter", f"{', '.join(unknown)}; {told}", errors=listed)
