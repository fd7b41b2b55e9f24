"""Brings a database to this code's schema: numbered SQL files, each in one transaction, under one advisory lock.

An empty database gets schema.sql, which equals the sum of the migrations (a test compares the two). Replicas that
migrate at once wait for each other; a migration whose text changed after it was applied is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from persistence.connection import Connection
from persistence.errors import Afu9Error, SchemaMismatch, Unreachable
from persistence.pool import connect

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x61667539  # "afu9"
LEDGER = """
CREATE TABLE IF NOT EXISTS afu9_migrations (
  version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    text: str = field(repr=False)

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All migrations of this code, by version."""
    files = sorted(MIGRATIONS.glob("[0-9]*.sql"))
    return [Migration(int(file.name.split("_")[0]), file.stem, file.read_text()) for file in files]


def schema_text() -> str:
    """schema.sql: beside this file in an installed package, at the top of a checkout."""
    here = Path(__file__).parent
    return next(path for path in (here / "schema.sql", here.parent / "schema.sql") if path.is_file()).read_text()


def migrate(dsn: str) -> list[Migration]:
    """Applies what is missing and returns it. Raises SchemaMismatch for a database newer than this code."""
    try:
        with connect(dsn) as connection:
            connection.execute("SET lock_timeout = '60s'; SET statement_timeout = 0")
            connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
            missing = _missing(connection)
            if len(missing) == len(migrations()):
                _apply(connection, schema_text(), missing)
            else:
                for migration in missing:
                    _apply(connection, migration.text, [migration])
            return missing
    except psycopg.errors.LockNotAvailable:
        raise Unreachable(
            "the migration waited 60 s for a lock and gave up: another migration or a long transaction is under way"
        ) from None
    except psycopg.errors.InsufficientPrivilege as error:
        reason = str(error).partition("\n")[0]
        raise Afu9Error(f"this role may not change the schema ({reason}): run `afu9 migrate` as its owner") from None


def pending(dsn: str) -> list[Migration]:
    """What `migrate` would apply; changes nothing."""
    with connect(dsn) as connection:
        return _missing(connection)


def require_schema(dsn: str) -> None:
    """Raises SchemaMismatch unless the database's schema is the one this code knows. For every role, at its start."""
    if missing := pending(dsn):
        names = ", ".join(migration.name for migration in missing)
        raise SchemaMismatch(f"the database lacks schema changes ({names}): run `afu9 migrate`")


def _apply(connection: Connection, text: str, applied: list[Migration]) -> None:
    with connection.transaction():
        connection.execute(LEDGER)
        connection.execute(text.encode())
        for migration in applied:
            connection.execute(
                "INSERT INTO afu9_migrations (version, name, checksum) VALUES (%s, %s, %s)",
                (migration.version, migration.name, migration.checksum),
            )


def _missing(connection: Connection) -> list[Migration]:
    ledger = connection.execute("SELECT to_regclass('afu9_migrations') IS NOT NULL AS present").fetchone()
    if not (ledger and ledger["present"]):
        return migrations()
    rows = connection.execute("SELECT version, checksum FROM afu9_migrations").fetchall()
    applied = {row["version"]: row["checksum"] for row in rows}
    known = migrations()
    if newer := sorted(set(applied) - {migration.version for migration in known}):
        raise SchemaMismatch(f"the database is at schema {newer[-1]}, this code knows {known[-1].version}: update afu9")
    for migration in known:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise SchemaMismatch(
                f"migration {migration.name} was changed after this database applied it: restore its text, "
                "and put the change into a migration of its own"
            )
    return [migration for migration in known if migration.version not in applied]
