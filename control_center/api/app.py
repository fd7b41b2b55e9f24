"""The application: routes, limits, authentication and what they share. Built by `afu9 api`, and mountable elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio.to_thread
from fastapi import Depends, FastAPI, Request, Response
from fastapi.telemetry import TelemetryConfig

from control_center.api import (
    compare_executions,
    control_executions,
    control_many,
    health,
    hold_calls,
    keep_workflows,
    metrics,
    problems,
    read_costs,
    read_executions,
    read_servers,
    read_stats,
    reference,
    sign_in,
    start_executions,
)
from control_center.api.auth import Gate
from control_center.api.known_parameters import refuse_unknown_parameters
from control_center.api.limits import Limits
from control_center.api.live import events, socket
from control_center.api.live.hub import Hub
from control_center.api.metrics import Measured, api_gauges
from control_center.api.prefix import Prefix
from control_center.dashboard import SCREENS
from control_center.dashboard.pages import is_page, show_fault
from control_center.keys import Trust
from orchestrator import trace
from orchestrator.broker import StepBroker
from orchestrator.control import Controller
from orchestrator.measure import Fleet
from orchestrator.serve_metrics import Exposition
from orchestrator.submit import Submitter
from persistence.pool import open_pool
from persistence.settings import Settings

THREADS = 16  # requests at work at once, and connections: more bring nothing
READING = frozenset({"GET", "HEAD", "OPTIONS"})  # pages and live readers ask every second: not traced
READ_SECONDS = 2  # of a listing's statement, at most


def _opened(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """What the application has while it serves."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        pool = open_pool(settings.database_dsn, max_size=THREADS)
        read_pool = open_pool(settings.database_dsn, max_size=THREADS, statement_seconds=READ_SECONDS)
        broker = StepBroker(settings.redis_url, namespace=settings.namespace)
        app.state.pool = pool
        app.state.read_pool = read_pool
        app.state.broker = broker
        app.state.submitter = Submitter(pool, broker)
        app.state.controller = Controller(pool, broker)
        app.state.fleet = Fleet(read_pool, broker, settings.lease_seconds)
        app.state.hub = Hub(read_pool, settings.redis_url, broker.hints_channel)
        try:
            async with app.state.hub.running():
                yield
        finally:
            broker.close()
            read_pool.close()
            pool.close()

    return lifespan


def _telemetry() -> TelemetryConfig:
    """FastAPI's span for each request that may change something, below the caller's own. What a request starts is a trace of
    its own, linked with that span. Its metrics would be ours again, its log holds payloads."""
    return {
        "tracing": trace.on is not None,
        "tracer_provider": trace.on.provider if trace.on is not None else None,
        "operation_spans": False,
        "metrics": False,
        "logs": False,
        "auto_configure": False,
        "exclude": lambda scope: scope.get("method", "GET") in READING,
    }


def make_app(settings: Settings, trust: Trust) -> FastAPI:
    """An app whose pools open when it starts."""
    trace.adopt(payloads=settings.trace_payloads)
    app = FastAPI(
        title="AFU-9",
        version="1",
        summary="Durable workflows whose steps are MCP tool calls",
        lifespan=_opened(settings),
        dependencies=[Depends(refuse_unknown_parameters)],
        docs_url=None,  # both would load from other hosts
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        telemetry=_telemetry(),
    )
    app.state.exposition = Exposition("api", lambda: api_gauges(app))
    app.state.gate = Gate(lambda: app.state.pool, trust)
    problems.install(app, lambda request, problem: show_fault(request, problem) if is_page(request) else None)

    @app.exception_handler(read_executions.NotModified)
    async def not_modified(_request: Request, same: read_executions.NotModified) -> Response:
        return Response(status_code=304, headers={"ETag": same.tag})

    routers = (
        read_executions,
        compare_executions,
        start_executions,
        keep_workflows,
        control_executions,
        control_many,
        hold_calls,
        read_costs,
        read_servers,
        read_stats,
        sign_in,
        reference,
        events,
        socket,
        health,
        metrics,
    )
    for module in routers:
        app.include_router(module.router)
    for screen in SCREENS:
        app.include_router(screen.router)
    problems.describe(app)
    app.add_middleware(Limits, per_second=settings.api_requests_per_second)
    app.add_middleware(Measured)
    app.add_middleware(Prefix, root=settings.api_root)
    return app
