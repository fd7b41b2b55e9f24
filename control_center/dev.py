"""`afu9 dev`: the whole system on one machine. It owns embedded servers and the roles' processes, and ends with them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

import click

from control_center.serve_api import listen, port_of
from control_center.services import open_services
from persistence.errors import Afu9Error
from persistence.settings import Settings

QUICK_DEATH = 2.0  # seconds: a role that ends sooner is started again only after a pause


@click.command("dev")
@click.option("--port", type=click.IntRange(0, 65_535), help="Of the API; default AFU9_API_PORT (3000).")
@click.option("-w", "--workers", default=1, show_default=True, type=click.IntRange(1, 32), help="Worker processes.")
def dev_command(workers: int, port: int | None) -> int:
    """Start PostgreSQL, Valkey, the API, an orchestrator and workers; keep state in .afu9/. Ctrl-C ends everything."""
    settings = Settings.load()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with open_services(settings, patient=False) as services:
        if services.origin == "attached":
            raise Afu9Error(
                f"an afu9 command runs in {settings.state_dir.absolute()} already: end it, or set AFU9_STATE_DIR"
            )
        environment = os.environ | {
            "DATABASE_URL": services.settings.database_dsn,
            "REDIS_URL": services.settings.redis_url,
        }
        port = _usable_port(settings.api_port, port)
        click.echo(f"dashboard http://127.0.0.1:{port}{settings.api_root}/ui/executions")
        click.echo(f"database  {masked(services.settings.database_dsn)}")
        click.echo(f"redis     {masked(services.settings.redis_url)}")
        click.echo(f"state     {settings.state_dir.absolute()}")
        click.echo(f"servers   {settings.mcp_config or 'builtin only: set AFU9_MCP_CONFIG to an mcpServers file'}")
        roles = [
            Role("api", environment | _metrics_port(settings, None), "--host", "127.0.0.1", "--port", str(port)),
            Role("orchestrator", environment | _metrics_port(settings, 0)),
            *(Role("worker", environment | _metrics_port(settings, 1 + n)) for n in range(workers)),
        ]
        click.echo(f"api       http://127.0.0.1:{port}{settings.api_root}/api")
        click.echo(
            f"running   api, orchestrator, {workers} worker(s). Try `afu9 run FILE` in this folder; Ctrl-C ends all"
        )
        while not stopping.wait(0.2):
            for role in roles:
                role.revive()
        click.echo("stopping", err=True)
        for role in roles:
            role.terminate()
        for role in roles:
            role.wait(settings.drain_seconds + 10)
    return 0


def _metrics_port(settings: Settings, place: int | None) -> dict[str, str]:
    """Each role has a port of its own; the API serves its metrics itself."""
    wanted = settings.metrics_port
    return {"AFU9_METRICS_PORT": str(wanted + place if wanted and place is not None else 0)}


def _usable_port(usual: int, wanted: int | None) -> int:
    """The wanted port, or the usual one, or a free one if that is taken. Raises Afu9Error if the wanted one is taken."""
    try:
        with listen("127.0.0.1", usual if wanted is None else wanted) as listener:
            return port_of(listener)
    except Afu9Error:
        if wanted is not None:
            raise
    with listen("127.0.0.1", 0) as listener:
        return port_of(listener)


def masked(url: str) -> str:
    """The URL without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


class Role:
    """One role's process, started again when it dies."""

    def __init__(self, name: str, environment: Mapping[str, str], *arguments: str):
        self._name = name
        self._arguments = arguments
        self._environment = environment
        self._start()

    def _start(self) -> None:
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "control_center", self._name, *self._arguments, "--parent", str(os.getpid())],
            env=dict(self._environment),
            start_new_session=True,  # the terminal's Ctrl-C reaches us alone, and we end them in order
        )

    def revive(self) -> None:
        code = self._process.poll()
        if code is None or time.monotonic() - self._started < QUICK_DEATH:
            return
        click.echo(f"{self._name} ended with {code}: starting it again", err=True)
        self._start()

    def terminate(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()

    def wait(self, seconds: float) -> None:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
