"""`afu9 api`: serves the HTTP API until told to stop.

Invariant: nothing listens beyond this machine without keys, unless somebody has written that it may.
"""

from __future__ import annotations

import gc
import ipaddress
import socket
import threading
import time
from contextlib import nullcontext

import click

from control_center.keys import Trust
from control_center.roles import PARENT, load_settings, stop_when_asked
from persistence.errors import Afu9Error, InvalidInput
from persistence.migrate import require_schema
from persistence.pool import check_database
from persistence.settings import Settings

GRACE = 10  # seconds for requests that are being answered


@click.command("api")
@click.option("--host", help="Address to listen on; default AFU9_API_HOST (127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port; default AFU9_API_PORT (3000), 0 takes a free one.")
@click.option("--insecure-no-auth", is_flag=True, help="Listen beyond this machine without asking for keys.")
@PARENT
def api_command(host: str | None, port: int | None, insecure_no_auth: bool, parent: int | None) -> int:
    """Start the HTTP API: other services start workflows and read their state."""
    settings = load_settings()
    if not (settings.database_dsn and settings.redis_url):
        raise InvalidInput("DATABASE_URL and REDIS_URL are needed, or use `afu9 dev`")
    host = host or settings.api_host
    trust = trust_for(settings, host, insecure_no_auth)
    require_schema(settings.database_dsn)
    stopping = stop_when_asked(parent)
    with listen(host, settings.api_port if port is None else port) as listener:
        click.echo(f"api  {address_of(listener)}", err=True)
        serve(settings, trust, listener, stopping)
    return 0


def trust_for(settings: Settings, host: str, insecure_no_auth: bool) -> Trust:
    """Whether keys are needed: always, unless nobody but this machine can ask."""
    local = is_local(host)
    if settings.api_auth == "none" and not local and not insecure_no_auth:
        raise InvalidInput(
            f"{host} can be reached from other machines: set AFU9_API_AUTH=keys and make one with `afu9 key create`, "
            "or say --insecure-no-auth"
        )
    keys = settings.api_auth == "keys" and not insecure_no_auth
    return Trust(
        keys=keys,
        local_only=local and not keys,
        proxies=tuple(_network(text) for text in settings.trusted_proxies.split(",") if text.strip()),
        proxy_role=settings.proxy_role,
    )


def serve(settings: Settings, trust: Trust, listener: socket.socket, stopping: threading.Event) -> None:
    """Returns after `stopping` is set and what was being answered has ended."""
    import uvicorn

    from control_center.api.app import make_app
    from control_center.api.await_request import ImpatientProtocol
    from control_center.api.serve import ApiServer
    from orchestrator import trace
    from orchestrator.serve_metrics import MetricsServer, fleet_text

    trace.begin("api", payloads=settings.trace_payloads)
    app = make_app(settings, trust)
    stopped_at = time.monotonic()
    metrics = MetricsServer(
        settings,
        app.state.exposition,
        checks=lambda: {"database": "ok" if check_database(getattr(app.state, "read_pool", None)) else "away"},
        fleet=lambda: fleet_text(app.state.fleet) if hasattr(app.state, "fleet") else b"",
    )
    metrics.start()
    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        log_config=None,  # its lines are ours
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=GRACE,
        limit_concurrency=2000,
        ws_max_size=65_536,
        ws_per_message_deflate=False,
    )
    server = ApiServer(config, app)
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]  # ours set `stopping`

    def end() -> None:
        nonlocal stopped_at
        stopping.wait()
        stopped_at = time.monotonic()
        metrics.begin_stop()
        server.should_exit = True

    threading.Thread(target=end, name="stop", daemon=True).start()
    gc.freeze()  # what stays for good is not looked through again: 0.1 s in the middle of every tenth page of 500 steps
    server.run(sockets=[listener])
    metrics.stop(stopped_at + settings.drain_seconds - time.monotonic())
    trace.end()
    if not server.started:
        raise Afu9Error("the API could not start: see above")


def is_local(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises Afu9Error.

    The protocol is named because asyncio sends without delay (TCP_NODELAY) only on sockets that name it: an answer in two
    packets would take 40 ms.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise Afu9Error(f"cannot listen on {host}:{port}: {error.strerror}; take another with --port") from None
    return listener


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError:
        raise InvalidInput(f"AFU9_TRUSTED_PROXIES: {text.strip()!r} is not an address or a network") from None
