"""Whose fault an error of PostgreSQL is: a statement's, or the server's."""

from __future__ import annotations

import psycopg

# No connection, only a standby, no resources, shutting down, faults of its system.
AWAY = ("08", "25006", "53", "57P", "58")


def statement_fault(error: Exception) -> str | None:
    """What PostgreSQL says is wrong with a statement, in one line without the values of rows. None for an outage, which says
    nothing about the statement, and for what is not PostgreSQL's. `error`: as `run` raises it."""
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    if not isinstance(cause, psycopg.Error) or cause.sqlstate is None or cause.sqlstate.startswith(AWAY):
        return None
    told = " ".join((cause.diag.message_primary or type(cause).__name__).split())
    return f"{told[:300]} (SQLSTATE {cause.sqlstate})"
