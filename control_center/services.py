"""Where the database and Redis are: the configured ones, else those of a running `afu9 dev`, else embedded ones.

Embedded servers belong to the process that started them. Others in the same state folder attach, and hold a shared lock
while they use them; the owner keeps the servers up until the last of them is done.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from persistence.embedded import Endpoints, find_running, open_embedded
from persistence.errors import InvalidInput, Unreachable
from persistence.migrate import migrate, require_schema
from persistence.settings import Settings

Origin = Literal["configured", "attached", "embedded"]


@dataclass(frozen=True, slots=True)
class Services:
    """settings: with database_url and redis_url filled in. origin: whose servers they are."""

    settings: Settings
    origin: Origin
    wait_for_others: Callable[[], None] = lambda: None
    """Returns once no other command uses our embedded servers: to be called while our workers still run."""


@contextmanager
def open_services(settings: Settings, *, start: bool = True, patient: bool = True) -> Iterator[Services]:
    """Yields usable services. `start=False` (ls, show) starts embedded servers only where a state folder exists.
    `patient=False` (dev) ends them although others use them. Raises Unreachable."""
    if settings.database_dsn or settings.redis_url:
        if not (settings.database_dsn and settings.redis_url):
            missing = "REDIS_URL" if settings.database_dsn else "DATABASE_URL (or DATABASE_HOST)"
            raise InvalidInput(f"only half of the services is configured: set {missing} too, or neither")
        require_schema(settings.database_dsn)
        yield Services(settings, "configured")
        return
    state_dir = settings.state_dir
    if (
        not start
        and find_running(state_dir) is None
        and not (state_dir / "endpoints.json").exists()
        and not _used(state_dir)
    ):
        raise Unreachable(
            f"no database: DATABASE_URL is not set, and nothing has run in {state_dir.absolute()} yet. "
            "Try `afu9 run FILE`, or start `afu9 dev`"
        )
    with ExitStack() as stack:
        endpoints, wait = _reach(state_dir, stack)
        migrate(endpoints.database_url)  # attached too: the owner may not have come so far yet
        located = settings.model_copy(update={"database_url": endpoints.database_url, "redis_url": endpoints.redis_url})
        yield Services(located, "embedded" if endpoints.owner else "attached", wait)
        if patient:
            wait()


def _used(state_dir: Path) -> bool:
    return (state_dir / "pg").exists() or (state_dir / "owner.lock").exists()


def _reach(state_dir: Path, stack: ExitStack) -> tuple[Endpoints, Callable[[], None]]:
    """Servers that stay until the stack closes, and the owner's way to wait until nobody else uses them.

    Who attaches holds a shared lock meanwhile. An owner that is about to end holds it alone until its servers are down: so
    one that found them just before waits here, and then starts its own.
    """
    while True:
        servers = open_embedded(state_dir)
        lock = (state_dir / "clients.lock").open("ab")
        if servers.endpoints.owner:
            break
        fcntl.flock(lock, fcntl.LOCK_SH)
        if find_running(state_dir) is not None:
            break
        lock.close()
        servers.close()
    stack.enter_context(lock)
    stack.callback(servers.close)

    def wait() -> None:
        if not servers.endpoints.owner:
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            click.echo("another afu9 command uses these servers: waiting for its end", err=True)
            fcntl.flock(lock, fcntl.LOCK_EX)

    return servers.endpoints, wait
