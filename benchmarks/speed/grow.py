"""A database with prior executions: finished ones, spread over the last month, of the same definition that is measured.

The rows look as a finished execution leaves them. Executions are made by INSERT .. SELECT, their steps by COPY from the
server and back; then VACUUM (ANALYZE) and a checkpoint.
"""

from __future__ import annotations

import time

import psycopg

from benchmarks.speed.ours import NOOP, sequence
from benchmarks.speed.servers import Servers
from orchestrator.plan import definition_hash
from orchestrator.submit import Submitter
from persistence.migrate import migrate
from persistence.pool import open_pool

STEPS = 10
CHUNK = 50_000

EXECUTIONS = """
INSERT INTO workflow_executions (id, workflow_id, status, input, output, context, started_at, completed_at, created_at,
                                 updated_at, definition_hash)
SELECT time_ordered_uuid(), w.id, 'completed', '{}', '{}', '{}', t.at, t.at + interval '1 s', t.at, t.at + interval '1 s',
       w.definition_hash
  FROM generate_series(%(first)s::int, %(last)s::int) n,
       LATERAL (SELECT now() - (%(total)s - n + 1) * interval '30 days' / %(total)s AS at) t, workflows w
"""
STEP_ROWS = """
SELECT gen_random_uuid(), e.id, ('step_' || i)::varchar, i, 'completed'::varchar, '{}'::jsonb, '{}'::jsonb,
       e.started_at, e.completed_at, 1, 0, e.created_at, e.completed_at, %(tool)s::text,
       CASE WHEN i < %(steps)s - 1 THEN ARRAY[i + 1] ELSE '{}' END::int[], 1
  FROM workflow_executions e, generate_series(0, %(steps)s - 1) i
"""
COLUMNS = (
    "id, execution_id, step_name, step_index, status, input, output, started_at, completed_at, duration_ms, retry_count,"
    " created_at, updated_at, tool, successors, attempt"
)


def grown_database(servers: Servers, executions: int) -> tuple[str, float]:
    """Its dsn, and the seconds it took."""
    begin = time.monotonic()
    dsn = servers.fresh_database("speed_grown")
    migrate(dsn)
    workflow = sequence(NOOP, STEPS)
    with open_pool(dsn) as pool:
        Submitter(pool, None).register(workflow)
    with psycopg.connect(dsn, autocommit=True) as source, psycopg.connect(dsn, autocommit=True) as target:
        for connection in (source, target):
            connection.execute("SET synchronous_commit = off")
        for first in range(1, executions + 1, CHUNK):
            bounds = {"first": first, "last": min(first + CHUNK - 1, executions), "total": executions}
            source.execute(EXECUTIONS, bounds)
        rows = source.execute(
            "SELECT count(*) FROM workflow_executions WHERE definition_hash = %s", [definition_hash(workflow)]
        ).fetchone()
        assert rows == (executions,), rows
        with (
            psycopg.ClientCursor(source).copy(
                f"COPY ({STEP_ROWS}) TO STDOUT (FORMAT binary)", {"tool": NOOP, "steps": STEPS}
            ) as out,
            target.cursor().copy(f"COPY workflow_steps ({COLUMNS}) FROM STDIN (FORMAT binary)") as into,
        ):
            for block in out:
                into.write(block)
        target.execute("VACUUM (ANALYZE)")
        target.execute("CHECKPOINT")
    return dsn, time.monotonic() - begin
