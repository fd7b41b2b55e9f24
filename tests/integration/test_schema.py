"""schema.sql, its migrations, and the queries against it."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from persistence.errors import SchemaMismatch
from persistence.migrate import Migration, migrate, migrations, pending, schema_text
from persistence.pool import Pool, connect
from persistence.statements import QUERIES, statement

CATALOG = """
SELECT 'column' AS kind, table_name || '.' || column_name AS name,
       concat_ws(' ', data_type, is_nullable, column_default) AS text
  FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL
SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
  FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'function', proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL
SELECT 'options', relname, array_to_string(reloptions, ' ') FROM pg_class WHERE relnamespace = 'public'::regnamespace
ORDER BY 1, 2, 3
"""


def catalog(dsn: str) -> list[tuple[str, ...]]:
    with psycopg.connect(dsn) as connection:
        return [row for row in connection.execute(CATALOG) if "afu9_migrations" not in row[1]]


def test_the_migrations_add_up_to_schema_sql(dsn: str, empty_dsn: str) -> None:
    """A database that came by every migration equals a new one."""
    with psycopg.connect(empty_dsn) as connection:
        for migration in migrations():
            connection.execute(migration.text.encode())
    assert catalog(empty_dsn) == catalog(dsn)


def test_migrate_twice_at_once_applies_once(empty_dsn: str) -> None:
    """Replicas that start together wait for each other."""
    applied: list[Migration] = []
    threads = [threading.Thread(target=lambda: applied.extend(migrate(empty_dsn))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [migration.version for migration in applied] == [migration.version for migration in migrations()]
    assert pending(empty_dsn) == []


def test_a_changed_migration_is_refused(dsn: str) -> None:
    """What a database has applied is history."""
    with connect(dsn) as connection:
        connection.execute("UPDATE afu9_migrations SET checksum = 'other'")
    with pytest.raises(SchemaMismatch, match="was changed after"):
        migrate(dsn)


def test_a_newer_database_is_refused(dsn: str) -> None:
    """An old worker must not run on a schema it does not know."""
    with connect(dsn) as connection:
        connection.execute("INSERT INTO afu9_migrations (version, name, checksum) VALUES (9999, 'future', '')")
    with pytest.raises(SchemaMismatch, match="update afu9"):
        migrate(dsn)


@pytest.mark.parametrize("name", sorted(path.stem for path in QUERIES.glob("*.sql")))
def test_every_query_fits_the_schema(pool: Pool, name: str) -> None:
    """PostgreSQL can plan it."""
    parameters = dict.fromkeys(re.findall(r"%\((\w+)\)s", statement(name).decode()))
    with pool.connection() as connection:
        assert connection.execute(b"EXPLAIN " + statement(name), parameters).fetchall()


ORIGINAL_QUERIES = {
    "recent": """SELECT
  id,
  status,
  started_at,
  completed_at,
  EXTRACT(EPOCH FROM (completed_at - started_at)) * 1000 as duration_ms
FROM workflow_executions
ORDER BY started_at DESC
LIMIT 50;""",
    "steps": """SELECT
  step_name,
  step_index,
  status,
  duration_ms,
  retry_count,
  error
FROM workflow_steps
WHERE execution_id = 'a3f2e8b4-5c7d-4e8f-9a0b-1c2d3e4f5a6b'
ORDER BY step_index ASC;""",
    "failed": """SELECT
  we.id,
  we.started_at,
  we.error,
  COUNT(ws.id) as total_steps,
  COUNT(ws.id) FILTER (WHERE ws.status = 'failed') as failed_steps
FROM workflow_executions we
LEFT JOIN workflow_steps ws ON ws.execution_id = we.id
WHERE we.status = 'failed'
GROUP BY we.id
ORDER BY we.started_at DESC;""",
    "average": """SELECT
  step_name,
  COUNT(*) as executions,
  AVG(duration_ms) as avg_duration_ms,
  MIN(duration_ms) as min_duration_ms,
  MAX(duration_ms) as max_duration_ms
FROM workflow_steps
WHERE status = 'completed'
GROUP BY step_name
ORDER BY avg_duration_ms DESC;""",
}

ORIGINAL_INDEXES = """
CREATE INDEX IF NOT EXISTS idx_executions_status ON workflow_executions(status);
CREATE INDEX IF NOT EXISTS idx_executions_started_at ON workflow_executions(started_at DESC);
CREATE INDEX IF NOT EXISTS idx_steps_execution_id ON workflow_steps(execution_id);
"""

EXECUTION = "a3f2e8b4-5c7d-4e8f-9a0b-1c2d3e4f5a6b"


@pytest.fixture
def history(dsn: str) -> str:
    """A failed execution with two steps, and a completed one that is a hundred days old."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO workflow_executions (id, status, error) VALUES (%s, 'failed', 'no')", (EXECUTION,)
        )
        connection.execute(
            "INSERT INTO workflow_steps (execution_id, step_name, step_index, status, duration_ms) "
            "VALUES (%s, 'fetch', 0, 'completed', 30), (%s, 'push', 1, 'failed', 5)",
            (EXECUTION, EXECUTION),
        )
        old = connection.execute(
            "INSERT INTO workflow_executions (status, started_at, completed_at) "
            "VALUES ('completed', now() - interval '100 days', now() - interval '100 days') RETURNING id"
        ).fetchone()
        assert old is not None
        connection.execute(
            "INSERT INTO workflow_steps (execution_id, step_name, step_index, status, duration_ms) "
            "VALUES (%s, 'fetch', 0, 'completed', 50)",
            old,
        )
    return dsn


def test_the_originals_queries_run_unchanged(history: str) -> None:
    """What users learnt from the original's documentation."""
    with psycopg.connect(history) as connection:
        answers = {name: connection.execute(text).fetchall() for name, text in ORIGINAL_QUERIES.items()}
    assert [row[1] for row in answers["recent"]] == ["failed", "completed"]
    assert [row[0] for row in answers["steps"]] == ["fetch", "push"]
    assert [(row[2], row[3], row[4]) for row in answers["failed"]] == [("no", 2, 1)]
    assert [(row[0], row[1], float(row[2])) for row in answers["average"]] == [("fetch", 2, 40.0)]


def test_the_originals_deletion_of_old_executions_runs_unchanged(history: str) -> None:
    """Steps go with their execution; younger and failed executions stay."""
    with psycopg.connect(history, autocommit=True) as connection:
        deleted = connection.execute("""DELETE FROM workflow_executions
WHERE status = 'completed'
  AND completed_at < NOW() - INTERVAL '90 days';""").rowcount
        left = connection.execute("SELECT count(*) FROM workflow_steps").fetchone()
    assert (deleted, left) == (1, (2,))


def test_the_originals_index_statements_find_them_made(history: str) -> None:
    """IF NOT EXISTS: they change nothing."""
    with psycopg.connect(history) as connection:
        connection.execute(ORIGINAL_INDEXES)
        table = connection.execute(
            "SELECT tablename FROM pg_tables WHERE tablename = 'workflow_executions';"
        ).fetchone()
    assert table == ("workflow_executions",)


def test_the_schema_uses_nothing_newer_than_postgresql_15() -> None:
    """uuidv7() would tie us to 18."""
    assert "uuidv7()" not in re.sub(r"--.*", "", schema_text())


def test_ids_made_in_sql_sort_by_time(pool: Pool) -> None:
    """Version 7, RFC 9562 variant, and later ids are greater across milliseconds."""
    with pool.connection() as connection:
        first = connection.execute("SELECT time_ordered_uuid() AS id").fetchone()
        connection.execute("SELECT pg_sleep(0.003)")
        second = connection.execute("SELECT time_ordered_uuid() AS id").fetchone()
    assert first is not None
    assert second is not None
    assert first["id"] < second["id"]
    assert (first["id"].version, first["id"].variant) == (7, uuid4().variant)


def test_schema_sql_is_found(tmp_path: Path) -> None:
    """In a checkout as in an installed package."""
    assert schema_text().startswith("-- AFU-9")
