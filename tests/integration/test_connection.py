"""Statements kept by a connection: rows, values and errors as psycopg's cursor gives them, whatever happens to the
statement; and a pool that gives out the connection that came back last."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

from persistence.connection import Connection
from persistence.errors import InvalidInput, Unreachable
from persistence.pool import Pool, connect, open_pool, run
from persistence.transitions import Claim, Completion, complete_steps
from tests.integration.test_transitions import WORKER, start, take

EACH = b"""
SELECT %(text)s::text AS text, %(number)s::bigint AS number, %(yes)s::boolean AS yes, %(id)s::uuid AS id,
       %(ids)s::uuid[] AS ids, %(numbers)s::integer[] AS numbers, %(json)s::jsonb AS json,
       %(text)s::text || '100%%' AS percent
"""
VALUES: dict[str, Any] = {
    "text": "ä \\ ' \" %s 🙂",
    "number": 2**62,
    "yes": True,
    "id": UUID(int=7),
    "ids": [UUID(int=1), UUID(int=2**127)],
    "numbers": [1, -2, None],
    "json": '{"n": 12345678901234567890123, "list": [1.5, null]}',
}
NOTHING: dict[str, Any] = dict.fromkeys(VALUES)
OTHERS_END = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()
"""
CHANGING = b"SELECT * FROM changing(%(n)s::integer)"


def done(claim: Claim, output: str = "{}") -> Completion:
    return Completion(claim, output, "{}")


@pytest.fixture
def connection(dsn: str) -> Any:
    with connect(dsn) as opened:
        yield opened


@pytest.mark.parametrize("values", [VALUES, NOTHING, VALUES | {"ids": [], "text": ""}])
def test_values_and_rows_are_those_of_a_cursor(connection: Connection, values: dict[str, Any]) -> None:
    """The first time and when the statement is known."""
    expected = connection.execute(EACH, values).fetchall()
    for _ in range(3):
        assert connection.run_kept(EACH, values) == expected
        assert connection.run_kept(EACH, VALUES)[0]["percent"] == f"{VALUES['text']}100%"


def test_no_row_and_many(connection: Connection) -> None:
    """And then one again."""
    sql = b"SELECT n FROM generate_series(1, %(most)s::integer) n"
    for most in (0, 3, 1, 0):
        assert connection.run_kept(sql, {"most": most}) == [{"n": n} for n in range(1, most + 1)]


def test_an_error_is_psycopgs_and_the_connection_goes_on(connection: Connection) -> None:
    """With its class and its text; in the statement's text, and in a value."""
    sql = b"SELECT 1 / %(n)s::integer AS part"
    assert connection.run_kept(sql, {"n": 1}) == [{"part": 1}]
    with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero"):
        connection.run_kept(sql, {"n": 0})
    with pytest.raises(psycopg.errors.UndefinedTable, match="nowhere"):
        connection.run_kept(b"SELECT 1 FROM nowhere", {})
    with pytest.raises(psycopg.DataError, match="NUL"):
        connection.run_kept(EACH, VALUES | {"text": "a\0"})
    assert connection.run_kept(sql, {"n": 1}) == [{"part": 1}]


def test_a_statement_that_is_gone_is_prepared_anew(connection: Connection) -> None:
    """As behind a proxy that gives each transaction another connection."""
    assert connection.run_kept(EACH, VALUES)
    connection.execute("DEALLOCATE ALL")
    assert connection.run_kept(EACH, VALUES)[0]["id"] == UUID(int=7)


def test_a_function_that_a_migration_has_changed_is_asked_anew(connection: Connection, dsn: str) -> None:
    """It has other columns now; whoever runs meanwhile is not to fail until it is started again."""
    connection.execute("CREATE FUNCTION changing(n integer) RETURNS TABLE (one integer) RETURN n")
    assert connection.run_kept(CHANGING, {"n": 5}) == [{"one": 5}]
    with connect(dsn) as other, other.transaction():
        other.execute("DROP FUNCTION changing")
        other.execute(
            "CREATE FUNCTION changing(n integer) RETURNS TABLE (one integer, two text) LANGUAGE sql AS "
            "$$ SELECT n, 'and ' || n $$"
        )
    for _ in range(2):
        assert connection.run_kept(CHANGING, {"n": 5}) == [{"one": 5, "two": "and 5"}]


def test_a_lost_connection_is_told_as_such_and_replaced(pool: Pool, dsn: str) -> None:
    """Before the statement and while it runs; the pool has another one then."""
    with pool.connection() as connection, connect(dsn) as other:
        assert connection.run_kept(EACH, VALUES)
        other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError):
            connection.run_kept(EACH, VALUES)
        with pytest.raises(psycopg.OperationalError):
            connection.run_kept(EACH, VALUES)
    with pool.connection() as connection, pytest.raises(psycopg.OperationalError):
        connection.run_kept(b"SELECT pg_terminate_backend(pg_backend_pid())", {})
    assert run(pool, "check_database", prepare=True) == [{"answer": 1}]


def test_a_step_is_completed_once_though_its_connection_broke(pool: Pool, dsn: str) -> None:
    """The transitions use what is kept: their errors are ours."""
    _, ready = start(pool)
    claim = take(pool, ready)
    with connect(dsn) as other:
        other.execute(OTHERS_END)
    with pytest.raises(Unreachable):
        complete_steps(pool, [done(claim)], WORKER, 30_000)
    pool.check()
    assert complete_steps(pool, [done(claim)], WORKER, 30_000)[0].recorded
    assert not complete_steps(pool, [done(claim)], WORKER, 30_000)[0].recorded
    with pytest.raises(InvalidInput):
        complete_steps(pool, [done(claim, output="{no json")], WORKER, 30_000)


def test_the_connection_that_came_back_last_is_given_out_next(dsn: str) -> None:
    """Its backend is warm. The others come when more are wanted at once."""
    with open_pool(dsn, min_size=3, max_size=3) as pool:
        first, second, third = (pool.getconn() for _ in range(3))
        assert len({first, second, third}) == 3
        for connection in (first, third, second):
            pool.putconn(connection)
        for _ in range(5):
            with pool.connection() as connection:
                assert connection is second
        assert [pool.getconn() for _ in range(3)] == [second, third, first]
        for connection in (first, second, third):
            pool.putconn(connection)
