"""The connection pool, and what a lost connection means.

Every statement is its own transaction (autocommit): a transition is one SQL function, so nothing is ever left half done
and a connection is never held across a tool call.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from persistence.connection import Connection
from persistence.errors import Afu9Error, InvalidInput, SchemaMismatch, TooSlow, Unreachable
from persistence.statements import statement

Pool: TypeAlias = ConnectionPool[Connection]
Result = TypeVar("Result")

log = logging.getLogger(__name__)
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it repeats each failed connection attempt; we say it once

STATEMENT_SECONDS = 30


def _options(statement_seconds: int) -> str:
    """UTC, because Python subtracts two times of one zone by its clock, which is an hour off where that was put forward."""
    return f"-c statement_timeout={statement_seconds}s -c idle_in_transaction_session_timeout=30s -c timezone=UTC"


CONNECTION: dict[str, Any] = {
    "autocommit": True,
    "row_factory": dict_row,
    "application_name": "afu9",
    "connect_timeout": 5,
    "options": _options(STATEMENT_SECONDS),
    "keepalives_idle": 5,  # a host that vanished without a word is noticed within seconds
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


class _WarmFirst(ConnectionPool[Connection]):
    """Gives out the connection that came back last. psycopg's own pool takes all in turn, so that each statement meets a
    backend whose data no cache of the processor holds any more: a lone hop took 1.38 ms instead of 0.90."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._pool = _Stack(self._pool)


class _Stack(deque[Any]):
    """Puts back where the next is taken."""

    append = deque.appendleft


WAIT = 3.0  # seconds that a caller waits for a connection


def open_pool(dsn: str, *, min_size: int = 1, max_size: int = 4, statement_seconds: int = STATEMENT_SECONDS) -> Pool:
    """A pool of `min_size` to `max_size` connections, whose statements may take `statement_seconds`. Raises Unreachable if
    none can be made."""
    if not dsn:
        raise InvalidInput("no database is configured: set DATABASE_URL, or DATABASE_HOST and its companions")
    pool: Pool = _WarmFirst(
        dsn,
        min_size=min_size,
        max_size=max_size,
        connection_class=Connection,
        open=False,
        timeout=WAIT,
        reconnect_timeout=WAIT,  # then it gives up, and only a new caller makes it try anew: so callers wait no longer
        kwargs=CONNECTION
        if statement_seconds == STATEMENT_SECONDS
        else CONNECTION | {"options": _options(statement_seconds)},
    )
    with translated():
        connect(dsn).close()  # the pool would retry in the background and tell no reason
        pool.open()
        pool.wait(10.0)
    return pool


def connect(dsn: str) -> Connection:
    """One connection outside the pool (leases, migrations). Raises Unreachable."""
    with translated():
        return Connection.connect(dsn, **CONNECTION)


def check_database(pool: Pool | None) -> bool:
    """Whether the database answers."""
    try:
        return pool is not None and run(pool, "check_database")[0]["answer"] == 1
    except Unreachable:
        return False


def run(
    pool: Pool,
    query: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    patience: float | None = 0.0,
    halt: threading.Event | None = None,
    prepare: bool | None = None,
) -> list[DictRow]:
    """Runs the statement in queries/<query>.sql and returns its rows.

    A lost connection is answered with one more try at once, then with tries until `patience` seconds have passed or
    `halt` is set: every statement here is fenced or idempotent, so a commit whose answer was lost is not repeated in
    effect. The one exception, a claim, is run with patience None: one try. `prepare=False` plans the statement anew for its
    parameters, for one whose optional filters want different indexes; True is for those that run for every step.
    """
    sql = statement(query)

    def once() -> list[DictRow]:
        with translated():
            connection = pool.getconn()
            try:
                if prepare:
                    return connection.run_kept(sql, parameters or {})
                cursor = connection.execute(sql, parameters, prepare=prepare)
                return cursor.fetchall() if cursor.description else []
            finally:
                pool.putconn(connection)

    return once() if patience is None else _persist(pool, once, patience, halt or threading.Event())


def _persist(pool: Pool, action: Callable[[], Result], patience: float, halt: threading.Event) -> Result:
    deadline = time.monotonic() + patience
    pause = 0.0
    while True:
        try:
            return action()
        except Unreachable as error:
            hopeless = isinstance(error, TooSlow) and not patience  # it would take as long again
            if hopeless or (pause and time.monotonic() + pause > deadline) or halt.is_set():
                raise
            log.warning("database: %s; trying again", error)
            halt.wait(pause)
            pause = min(max(2 * pause, 0.05), 1.0)
            pool.check()


class translated:  # used as a function
    """`with translated():` driver errors become ours, in this one place."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, psycopg.Error) and (ours := _ours(error)) is not None:
            raise ours from error


def _ours(error: psycopg.Error) -> Afu9Error | None:
    match error:
        case PoolTimeout():
            return Unreachable(f"PostgreSQL: no connection became free or could be made: {_line(error)}")
        case psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedFunction() | psycopg.errors.UndefinedColumn():
            return SchemaMismatch(f"the database lacks our schema ({_line(error)}): run `afu9 migrate`")
        case psycopg.errors.NoDataFound() | psycopg.errors.ObjectNotInPrerequisiteState():  # ours: afu9_start_workflow
            return InvalidInput(_line(error))
        case psycopg.DataError() | psycopg.IntegrityError():
            return InvalidInput(f"PostgreSQL cannot store this: {_line(error)}")
        case psycopg.errors.QueryCanceled():
            return TooSlow(f"PostgreSQL: the statement took too long: {_line(error)}")
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return Unreachable(f"PostgreSQL does not answer: {_line(error)}")
    return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
