"""No statement and no connection waits without end: limits of time, and how it is said when one is reached."""

from __future__ import annotations

import select
import threading
from typing import Any

import psycopg
import pytest

from persistence.errors import Unreachable
from persistence.pool import CONNECTION, Connection, Pool, connect, open_pool, run

LIMITS = {"statement_timeout": "30s", "idle_in_transaction_session_timeout": "30s"}


def limits(connection: Connection) -> dict[str, str]:
    rows = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in LIMITS]
    return {name: str(value) for row in rows if row for name, value in row.items()}


def test_every_connection_has_limits_of_time(dsn: str, pool: Pool) -> None:
    """Those of the pool, and those outside it: leases, migrations."""
    with pool.connection() as connection:
        assert limits(connection) == LIMITS
    with connect(dsn) as connection:
        assert limits(connection) == LIMITS


def test_the_limits_hold_also_where_the_url_or_the_role_asks_for_none(dsn: str) -> None:
    """What an operator forgot, or a role that has its own, does not take ours away."""
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {owner.info.dbname} SET statement_timeout = 0")
    with connect(psycopg.conninfo.make_conninfo(dsn, options="-c statement_timeout=0")) as connection:
        assert limits(connection) == LIMITS


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same limits, a hundred times shorter."""
    options = "-c statement_timeout=300ms -c idle_in_transaction_session_timeout=300ms"
    monkeypatch.setitem(CONNECTION, "options", options)


def test_a_statement_that_takes_too_long_ends_in_a_clear_error(dsn: str, hurried: None) -> None:
    """It names the reason, leaves nothing behind, and the pool goes on."""
    with open_pool(dsn, max_size=1) as pool:
        with psycopg.connect(dsn) as other:
            other.execute("LOCK TABLE workflow_executions")
            done = threading.Thread(target=lambda: errors.append(_error(pool)), daemon=True)
            errors: list[Any] = []
            done.start()
            done.join(20)
            assert not done.is_alive(), "it hangs"
            assert isinstance(errors[0], Unreachable)
            assert "statement timeout" in str(errors[0])
            other.rollback()
        assert run(pool, "get_recent_executions", {"limit": 1}) == []


def _error(pool: Pool) -> Exception | None:
    try:
        run(pool, "get_recent_executions", {"limit": 1})
    except Exception as error:
        return error
    return None


def test_a_transaction_that_idles_is_ended(dsn: str, hurried: None) -> None:
    """Its locks go with it: a process that was stopped in the middle blocks nobody for long."""
    connection = connect(dsn)
    with psycopg.connect(dsn, autocommit=True) as other:
        connection.autocommit = False
        connection.execute("LOCK TABLE workers")
        assert select.select([connection.fileno()], [], [], 10)[0], "PostgreSQL did not end it"
        other.execute("DELETE FROM workers")
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        connection.execute("SELECT 1")
    connection.close()
