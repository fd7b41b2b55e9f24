"""A span for each HTTP request that may change something, below the caller's own. An application has it only if it traces.

What a request starts is a trace of its own (orchestrator/spans.py), linked with this span.
"""

from __future__ import annotations

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_center.api.metrics import METHODS, NO_ROUTE
from orchestrator import trace_names as names
from orchestrator.spans import Spans

READING = frozenset({"GET", "HEAD", "OPTIONS"})  # pages and live readers ask every second


class Traced:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, spans: Spans):
        self._app = app
        self._tracer = spans.tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        code = 500

        async def note(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        attributes = {names.HTTP_METHOD: method, names.URL_PATH: scope["path"], names.URL_SCHEME: scope["scheme"]}
        caller = propagate.extract(headers)
        with self._tracer.start_as_current_span(
            method, caller, SpanKind.SERVER, attributes, record_exception=False
        ) as span:
            try:
                await self._app(scope, receive, note)
            finally:
                _tell(span, method, getattr(scope.get("route"), "path_format", NO_ROUTE), code)


def _tell(span: trace.Span, method: str, route: str, code: int) -> None:
    if route != NO_ROUTE:
        span.update_name(names.REQUEST.format(method, route))
        span.set_attribute(names.HTTP_ROUTE, route)
    span.set_attribute(names.HTTP_STATUS, code)
    if code >= 500:
        span.set_attribute(names.ERROR_TYPE, str(code))
        span.set_status(Status(StatusCode.ERROR))
