"""`afu9 doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import click
import redis

from control_center.services import Services, open_services
from orchestrator.broker import redis_client
from orchestrator.builtin_tools import BUILTIN
from persistence.errors import Afu9Error
from persistence.migrate import migrations, pending
from persistence.pool import Pool, open_pool, run
from persistence.settings import Settings
from workers.mcp_client import McpClient, ServerHealth


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `state` is ok, warn or fail."""

    name: str
    state: str
    detail: str


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor_command(as_json: bool) -> int:
    """Check everything a step needs. Exit 6 if something does not answer."""
    checks = list(_checks(Settings.load()))
    if as_json:
        click.echo(json.dumps({"checks": [asdict(check) for check in checks]}, ensure_ascii=False))
    else:
        for check in checks:
            click.echo(f"{ {'ok': '✓', 'warn': '!', 'fail': '✕'}[check.state] } {check.name:<12} {check.detail}")
    return 6 if any(check.state == "fail" for check in checks) else 0


def _checks(settings: Settings) -> Iterator[Check]:
    try:
        with open_services(settings) as services:
            yield from _service_checks(services)
    except Afu9Error as error:
        yield Check("services", "fail", str(error))
    yield from _server_checks(settings)


def _service_checks(services: Services) -> Iterator[Check]:
    settings = services.settings
    yield Check("services", "ok", services.origin)
    yield _timed("redis", lambda: _ping(settings.redis_url))
    with open_pool(settings.database_dsn) as pool:
        yield _timed("postgresql", lambda: str(run(pool, "server_facts")[0]["version"]))
        missing = pending(settings.database_dsn)
        current = f"version {migrations()[-1].version}"
        yield Check("schema", "fail" if missing else "ok", "run `afu9 migrate`" if missing else current)
        alive = run(pool, "server_facts")[0]["workers_alive"]
        idle = "none alive; `afu9 run` with embedded servers starts its own, else start `afu9 worker`"
        yield Check("workers", "ok" if alive else "warn", f"{alive} alive" if alive else idle)
        yield _stuck(pool)


def _stuck(pool: Pool) -> Check:
    rows = run(pool, "stuck_executions", {"limit": 100})
    if not rows:
        return Check("stuck", "ok", "no execution is without a worker, a message or a timer")
    return Check(
        "stuck", "fail", f"{len(rows)} executions that nothing will move, first {rows[0]['id']}: please report it"
    )


def _ping(url: str) -> str:
    client = redis_client(url)
    try:
        client.ping()
        return str(client.info("server").get("redis_version", "answers"))
    finally:
        client.close()


def _timed(name: str, ask: Callable[[], str]) -> Check:
    started = time.perf_counter()
    try:
        detail = ask()
    except (Afu9Error, redis.RedisError) as error:
        return Check(name, "fail", " ".join(str(error).split()))
    return Check(name, "ok", f"{detail}, {(time.perf_counter() - started) * 1000:.1f} ms")


def _server_checks(settings: Settings) -> Iterator[Check]:
    try:
        tools = McpClient.from_environment(settings.mcp_config)
    except Afu9Error as error:
        yield Check("mcp servers", "fail", str(error))
        return
    if tools.servers.keys() == {BUILTIN}:
        yield Check("mcp servers", "warn", "only builtin: set AFU9_MCP_CONFIG to an mcpServers file")
    with tools:
        for name in tools.servers:
            yield _server_check(tools.server_health(name))


def _server_check(health: ServerHealth) -> Check:
    name = f"mcp {health.server}"
    if not health.reachable:
        return Check(name, "fail", health.error or "does not answer")
    tools = "does not list its tools" if health.tools is None else f"{health.tools} tools"
    return Check(name, "ok", f"{tools}, protocol {health.era}, {health.latency_ms} ms")
