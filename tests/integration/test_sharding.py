"""What docs/sharding.md says: the hot path touches one execution's rows, found by its id or its steps'; and how far the
tables are from being divided by execution."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from orchestrator.plan import definition_hash
from orchestrator.submit import Request, Submitter
from persistence.ids import time_ordered_uuid
from persistence.pool import Connection, Pool, connect
from persistence.statements import statement
from tests.workflows import sequence

MANY = 2000  # executions, of so many steps each
STEPS = 6
BIG = ("workflow_executions", "workflow_steps", "workflow_events", "workflow_step_results")
# How rows of the big tables may be found: by the id of a step or an execution, or an execution's idempotency key.
BY_ID = {
    "workflow_executions_pkey",
    "idx_executions_idempotency_key",
    "workflow_steps_pkey",
    "idx_steps_execution_id",
    "idx_events_execution_id",
    "idx_step_results_execution_id",
}
WORKER = uuid4()
BUSY = """
UPDATE workflow_steps s SET status = 'running', attempt = 1, worker_id = %(worker)s, dispatch_after = NULL
  FROM (SELECT id FROM workflow_steps WHERE needs_left = 0 LIMIT %(steps)s) b WHERE s.id = b.id
"""
TOUCHED = """
SELECT c.relname AS name, c.relkind = 'i' AS index, pg_stat_get_xact_numscans(c.oid) AS scans,
       pg_stat_get_xact_tuples_returned(c.oid) AS read, pg_stat_get_xact_tuples_fetched(c.oid) AS fetched
  FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
 WHERE coalesce(i.indrelid, c.oid)::regclass::text = ANY (%s)
"""


@pytest.fixture
def connection(pool: Pool, dsn: str) -> Iterator[Connection]:
    """To a database with thousands of executions, that its planner knows of."""
    Submitter(pool, None).submit(sequence(STEPS), [Request(input={"n": n}) for n in range(MANY)])
    with connect(dsn) as opened:
        opened.execute(BUSY, {"worker": WORKER, "steps": 200})
        opened.execute(
            "INSERT INTO workflow_events (execution_id, event) SELECT id, 'control' FROM workflow_executions"
        )
        opened.execute("ANALYZE")
        yield opened


def touched(
    connection: Connection, query: bytes, parameters: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], set[str], int]:
    """Runs it; its rows, the indexes and tables it looked into ("table*": read whole), and how many rows it met there."""
    with connection.transaction():
        before = {row["name"]: row for row in connection.execute(TOUCHED, (list(BIG),))}
        rows = connection.execute(query, parameters).fetchall()
        after = {row["name"]: row for row in connection.execute(TOUCHED, (list(BIG),))}
    used: set[str] = set()
    met = 0
    for relation, row in after.items():
        if row["scans"] > before[relation]["scans"]:
            used.add(relation if row["index"] else f"{relation}*")
        if row["index"]:
            met += row["read"] - before[relation]["read"]
    return rows, used, met


def request(**more: Any) -> dict[str, Any]:
    one = {"id": str(time_ordered_uuid()), "input": {"n": 1}, "context": {}, "idempotency_key": str(uuid4()), **more}
    return {"hash": definition_hash(sequence(STEPS)), "requests": json.dumps([one]), "workflow_id": None}


def record(step: UUID, attempt: int, **more: Any) -> dict[str, Any]:
    records = json.dumps([{"step": str(step), "attempt": attempt, "output": {"v": 1}, "input": {}, "cost": 5, **more}])
    return {"records": records, "worker_id": WORKER, "timeout_ms": 1000, "again": False}


def test_the_hot_path_touches_one_execution(connection: Connection) -> None:
    """Each statement of a step's trip, among thousands of others: found by id, and no more rows than are one execution's."""
    seen: dict[str, int] = {}

    def do(name: str, **parameters: Any) -> list[dict[str, Any]]:
        rows, used, met = touched(connection, statement(name), parameters)
        assert used <= BY_ID, f"{name} looks into {used - BY_ID}"
        assert used, f"{name} looks nowhere"
        seen[name] = max(seen.get(name, 0), met)
        return rows

    (made,) = do("submit_executions", **request())
    (root,) = made["ready_steps"]
    (claim,) = do("claim_steps", step_ids=[root], attempts=[0], worker_id=WORKER, timeout_ms=1000)
    assert claim["execution_id"] == made["execution_id"]
    do("claim_again", step_id=root, attempt=0, worker_id=WORKER)
    do("reserve_cost", step_id=root, attempt=1, nanos=1)
    (done,) = do("complete_steps", **record(root, 1, hand_over=True))
    second = done["next_step"]
    (again,) = do("complete_steps", **record(root, 1, hand_over=True) | {"again": True})
    assert again["next_step"] == second
    charge = {"kind": "tool_error", "error": "no", "delay_ms": 0, "input": None, "cost": 3, "unpriced": False}
    (charged,) = do("charge_step", step_id=second, attempt=1, retryable=True, **charge)
    assert charged["step_status"] == "failed"
    assert charged["ended"]

    (other,) = do("submit_executions", **request())
    step, attempt = other["ready_steps"][0], 0
    do("claim_steps", step_ids=[step], attempts=[attempt], worker_id=WORKER, timeout_ms=1000)
    (released,) = do("release_step", step_id=step, attempt=1, reason="stop", unpriced=False)
    assert released["recorded"]
    do("step_due", execution_id=other["execution_id"])
    for control in ("pause_execution", "resume_execution"):
        do(control, execution_id=other["execution_id"], actor="ada", reason=None)
    attempt = 1
    while True:
        do("claim_steps", step_ids=[step], attempts=[attempt], worker_id=WORKER, timeout_ms=1000)
        (done,) = do("complete_steps", **record(step, attempt + 1, hand_over=False))
        if not done["ready_steps"]:
            break
        step, attempt = done["ready_steps"][0], 0
    assert done["execution_status"] == "completed"
    for reading in ("get_execution", "get_execution_steps", "get_execution_events"):
        do(reading, id=other["execution_id"], execution_id=other["execution_id"])
    assert {name: met for name, met in seen.items() if met > 10 * STEPS} == {}


def test_what_reads_more_is_seen(connection: Connection) -> None:
    """The same look at a statement that is not of the hot path, and at one that reads a table whole."""
    _, used, _ = touched(connection, statement("list_executions"), {"limit": 1, "status": None})
    assert not used <= BY_ID
    _, used, _ = touched(connection, b"SELECT max(error) FROM workflow_steps", {})
    assert used == {"workflow_steps*"}
    _, used, met = touched(
        connection, b"SELECT max(error) FROM workflow_steps WHERE execution_id > %(a)s", {"a": UUID(int=0)}
    )
    assert met > 10 * STEPS or not used <= BY_ID


# ------------------------------------------------------------------------------------------------ divided tables

PARTITIONS = 8
DIVIDED = """
CREATE SCHEMA divided;
CREATE TABLE divided.workflow_executions (LIKE public.workflow_executions INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
  PARTITION BY HASH (id);
ALTER TABLE divided.workflow_executions ADD PRIMARY KEY (id);
CREATE TABLE divided.workflow_steps (LIKE public.workflow_steps INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
  PARTITION BY HASH (execution_id);
ALTER TABLE divided.workflow_steps ADD PRIMARY KEY (execution_id, step_index);
ALTER TABLE divided.workflow_steps ADD FOREIGN KEY (execution_id) REFERENCES divided.workflow_executions ON DELETE CASCADE;
CREATE INDEX ON divided.workflow_steps (id);
"""


@pytest.fixture
def divided(connection: Connection) -> Connection:
    """The same rows, in tables that are divided by execution."""
    connection.execute(DIVIDED)
    for table in ("workflow_executions", "workflow_steps"):
        for number in range(PARTITIONS):
            connection.execute(
                f"CREATE TABLE divided.{table}_{number} PARTITION OF divided.{table}"
                f" FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})".encode()
            )
        connection.execute(f"INSERT INTO divided.{table} SELECT * FROM public.{table}".encode())  # noqa: S608  # ours
    connection.execute("ANALYZE")
    return connection


def partitions(connection: Connection, query: str, *parameters: object) -> set[str]:
    """Those that the query's plan visits, of either table."""
    (row,) = connection.execute(f"EXPLAIN (FORMAT json) {query}".encode(), parameters).fetchall()
    found: set[str] = set()
    nodes = [plan["Plan"] for plan in row["QUERY PLAN"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if re.search(r"_\d+$", node.get("Relation Name", "")):
            found.add(node["Relation Name"])
    return found


def test_rows_are_spread_evenly(divided: Connection) -> None:
    """Ids sort by time, their hashes do not: no partition is hot."""
    for table in ("workflow_executions", "workflow_steps"):
        query = f"SELECT count(*) AS n FROM divided.{table} GROUP BY tableoid".encode()  # noqa: S608  # ours
        counts = [row["n"] for row in divided.execute(query)]
        share = sum(counts) / PARTITIONS
        assert len(counts) == PARTITIONS
        assert all(0.75 * share < count < 1.25 * share for count in counts), counts


def test_who_names_the_execution_visits_one_partition(divided: Connection) -> None:
    """Of each table, and both in a join are the same; steps stay with their execution."""
    (one,) = divided.execute("SELECT execution_id, id, step_index FROM divided.workflow_steps LIMIT 1").fetchall()
    execution = one["execution_id"]
    queries = {
        "SELECT FROM divided.workflow_executions e WHERE e.id = %s": (execution,),
        "SELECT FROM divided.workflow_steps s WHERE s.execution_id = %s": (execution,),
        "SELECT FROM divided.workflow_steps s WHERE s.execution_id = %s AND s.step_index = 2": (execution,),
        "SELECT FROM divided.workflow_steps s WHERE s.execution_id = %s AND s.id = %s": (execution, one["id"]),
        "UPDATE divided.workflow_steps s SET error = 'x' WHERE s.execution_id = %s AND s.id = %s": (
            execution,
            one["id"],
        ),
    }
    for query, parameters in queries.items():
        assert len(partitions(divided, query, *parameters)) == 1, query
    both = "divided.workflow_executions e JOIN divided.workflow_steps s ON s.execution_id = e.id"
    joined = f"SELECT FROM {both} WHERE e.id = %s"  # ours
    assert len({name.rpartition("_")[2] for name in partitions(divided, joined, execution)}) == 1


def test_who_names_the_step_alone_visits_all(divided: Connection) -> None:
    """As claims, completions and charges do today: that is what has to change first."""
    (one,) = divided.execute("SELECT id FROM divided.workflow_steps LIMIT 1").fetchall()
    found = partitions(divided, "SELECT FROM divided.workflow_steps s WHERE s.id = %s", one["id"])
    assert len(found) == PARTITIONS


def test_what_stands_in_the_way(divided: Connection) -> None:
    """Uniqueness across partitions of what is not the key that they are divided by."""
    for text in (
        "ALTER TABLE divided.workflow_steps ADD UNIQUE (id)",
        "CREATE UNIQUE INDEX ON divided.workflow_executions (idempotency_key)",
    ):
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="partition"):
            divided.execute(text.encode())
