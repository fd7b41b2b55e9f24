"""The long-running roles and `migrate`: what a Procfile, a container or a service unit starts."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable

import click

from persistence.errors import InvalidInput
from persistence.settings import Settings
from persistence.write_log import begin_log

PARENT = click.option("--parent", type=int, hidden=True, help="End when this process is no longer the parent.")


@click.command("worker")
@click.option("-t", "--threads", type=click.IntRange(1, 512), help="Steps at once; default AFU9_THREADS (32).")
@PARENT
def worker_command(threads: int | None, parent: int | None) -> int:
    """Start a worker: it claims steps, calls their tools and records what came of it."""
    from workers.serve import Served

    settings = load_settings()
    if threads is not None:
        settings = settings.model_copy(update={"threads": threads})
    if not settings.database_dsn:
        raise InvalidInput("no database is configured: set DATABASE_URL, or use `afu9 dev`")
    stopping = stop_when_asked(parent)
    served = Served(settings)
    stopping.wait()
    served.stop()
    return 0


@click.command("orchestrator")
@PARENT
def orchestrator_command(parent: int | None) -> int:
    """Start an orchestrator. One is enough; more are welcome and share the work."""
    from orchestrator.__main__ import orchestrate

    orchestrate(load_settings(), stop_when_asked(parent))
    return 0


@click.command("migrate")
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if something is missing.")
@click.option("--print", "print_sql", is_flag=True, help="Print the SQL that would run.")
def migrate_command(check: bool, print_sql: bool) -> int:
    """Bring the database of DATABASE_URL to this version's schema."""
    from persistence.migrate import migrate, migrations, pending

    dsn = Settings.load().database_dsn
    if not dsn:
        raise InvalidInput("no database is configured: set DATABASE_URL, or DATABASE_HOST and its companions")
    if check or print_sql:
        missing = pending(dsn)
        for migration in missing:
            click.echo(migration.text if print_sql else f"missing: {migration.name}")
        if not missing:
            click.echo(f"the schema is current: version {migrations()[-1].version}", err=True)
        return 1 if check and missing else 0
    for migration in migrate(dsn):
        click.echo(f"applied {migration.name}")
    click.echo(f"the schema is current: version {migrations()[-1].version}", err=True)
    return 0


def load_settings() -> Settings:
    settings = Settings.load()
    begin_log(settings)
    logging.getLogger("httpx").setLevel(max(logging.WARNING, logging.getLogger().level))  # a line per request
    logging.getLogger("dramatiq").setLevel(
        logging.ERROR
    )  # a line per message, and one per message that is not admitted
    return settings


def stop_when_asked(parent: int | None) -> threading.Event:
    """SIGTERM and SIGINT ask for a graceful end, a second one ends at once. With `parent` its death asks too."""
    stopping = threading.Event()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent, stopping), name="parent", daemon=True).start()
    leave: Callable[..., None] = lambda *_: os._exit(130)  # noqa: E731  # the handler of the second signal

    def ask(number: int, _frame: object) -> None:
        stopping.set()
        signal.signal(number, leave)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return stopping


def _watch(parent: int, stopping: threading.Event) -> None:
    while not stopping.wait(1):
        if os.getppid() != parent:
            stopping.set()
