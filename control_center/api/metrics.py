"""`/metrics` and `/metrics/fleet` of the API, and how long its answers take.

Whoever may look at executions may read them: a key with the role viewer where keys are needed. On a port of their own
(AFU9_METRICS_PORT) nothing is asked; that one is bound to this machine, or where the operator says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from prometheus_client.core import GaugeMetricFamily
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_center.api.auth import needs
from orchestrator import metrics
from orchestrator.serve_metrics import CONTENT_TYPE, Exposition, fleet_text, pool_gauges

router = APIRouter(include_in_schema=False, dependencies=[Depends(needs("viewer"))])

NO_ROUTE = "none"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ENDLESS = "/api/workflow/events"  # its answers end when the reader goes


@router.get("/metrics")
def show_metrics(request: Request) -> Response:
    """What happened in this process."""
    exposition: Exposition = request.app.state.exposition
    return Response(exposition.text(), media_type=CONTENT_TYPE)


@router.get("/metrics/fleet")
def show_fleet(request: Request) -> Response:
    """How the fleet is: the same on every replica."""
    return Response(fleet_text(request.app.state.fleet), media_type=CONTENT_TYPE)


def api_gauges(app: FastAPI) -> Iterator[GaugeMetricFamily]:
    """Of an application that serves."""
    hub = getattr(app.state, "hub", None)
    if hub is not None:
        yield from pool_gauges({"write": app.state.pool, "read": app.state.read_pool})
        yield metrics.WS_CONNECTIONS.family([((), hub.readers())])
        yield metrics.LIVE_POLLING.family([((), float(hub.mode == "polling"))])


class Measured:
    """An ASGI middleware: the seconds until an answer is complete, by the route's template, never by the path."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        code = 500

        async def note(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        began = time.monotonic()
        try:
            await self._app(scope, receive, note)
        finally:
            route = getattr(scope.get("route"), "path_format", NO_ROUTE)
            method = scope["method"] if scope["method"] in METHODS else metrics.OTHER
            if route != ENDLESS:
                metrics.HTTP_DURATION.add(time.monotonic() - began, route, method, str(code))
