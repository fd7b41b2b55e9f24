"""The rows of executions as JSON objects, and back: exactly, whatever they hold. SQL is made of the catalogue's columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from psycopg.sql import SQL, Composed, Identifier, Literal

from persistence.connection import Connection
from persistence.errors import InvalidInput, SchemaMismatch
from persistence.statements import statement

# What belongs to an execution: table, the column that names the execution, its key. Parents first.
TABLES = {
    "workflow_executions": ("id", "id"),
    "workflow_steps": ("execution_id", "id"),
    "workflow_step_results": ("execution_id", "id"),
    "workflow_events": ("execution_id", "id"),
    "execution_budgets": ("execution_id", "execution_id"),
}
NUMBERED = ("workflow_step_results", "workflow_events")  # their ids come from a sequence of the database

Columns = Mapping[str, bool]
"""Names in order, and whether it is JSON."""


def columns_of(connection: Connection, table: str) -> dict[str, bool]:
    rows = connection.execute(statement("columns_of"), {"table": table}).fetchall()
    return {row["name"]: row["is_json"] for row in rows}


def known_columns(connection: Connection, archived: Mapping[str, Sequence[str]]) -> dict[str, dict[str, bool]]:
    """The archived columns, by table. Raises SchemaMismatch for those that this database does not have."""
    found = {}
    unknown = sorted(set(archived) - set(TABLES))
    for table in set(archived) - set(unknown):
        here = columns_of(connection, table)
        unknown += sorted(f"{table}.{name}" for name in archived[table] if name not in here)
        found[table] = {name: here[name] for name in archived[table] if name in here}
    if unknown:
        raise SchemaMismatch(
            f"the archive has what this database lacks ({', '.join(unknown)}): update afu9 and run `afu9 migrate`"
        )
    return found


def read_rows(connection: Connection, table: str, columns: Columns, ids: Sequence[UUID]) -> Iterator[str]:
    """The rows of these executions, one after the other: JSON objects without what is null."""
    query = SQL("COPY (SELECT {} FROM {} t WHERE t.{} = ANY ({}::uuid[]) ORDER BY t.{}, t.{}) TO STDOUT").format(
        _written(columns),
        *map(Identifier, (table, TABLES[table][0])),
        Literal(list(ids)),
        *map(Identifier, TABLES[table]),
    )
    with connection.cursor().copy(query) as rows:
        rows.set_types(["text"])
        for (row,) in rows.rows():
            yield row


def insert_rows(connection: Connection, table: str, columns: Columns, rows: Sequence[str]) -> int:
    """Puts rows back that are not there; how many. Columns that are not in `columns` get their defaults. Raises
    InvalidInput if another row is in the way."""
    key = Identifier(TABLES[table][1])
    values = [
        SQL("l.row -> {}" if is_json else "p.{}").format((Literal if is_json else Identifier)(name))
        for name, is_json in columns.items()
    ]
    given = SQL(
        "(SELECT u.line::jsonb AS row FROM unnest(%s::text[]) u(line)) l, LATERAL jsonb_populate_record(NULL::{}, l.row) p"
    )
    query = SQL(
        "INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {given} ON CONFLICT DO NOTHING"
    ).format(
        table=Identifier(table),
        names=SQL(", ").join(map(Identifier, columns)),
        values=SQL(", ").join(values),
        given=given.format(Identifier(table)),
    )
    inserted = connection.execute(query, (list(rows),)).rowcount
    if inserted < len(rows):
        query = SQL(
            "SELECT p.{key}::text AS key FROM {given} LEFT JOIN {table} t ON t.{key} = p.{key}"
            " WHERE t.{key} IS NULL OR ({written})::jsonb IS DISTINCT FROM l.row LIMIT 1"
        ).format(key=key, given=given.format(Identifier(table)), table=Identifier(table), written=_written(columns))
        for row in connection.execute(query, (list(rows),)):
            raise InvalidInput(f"another row stands in the way of {table} {row['key']}: it is not what was archived")
    return inserted


def raise_identity(connection: Connection, table: str, highest: int) -> None:
    """Ids that the table gives out itself are higher from now on."""
    connection.execute(statement("raise_identity"), {"table": table, "id": highest})


def _written(columns: Columns) -> Composed:
    """Of a row `t`. JSON stands as it is stored, to the last digit; SQL's null is no member, JSON's null is one."""
    members = [
        SQL("{} || t.{}::text" if is_json else "{} || to_json(t.{})::text").format(
            Literal(f'"{name}":'), Identifier(name)
        )
        for name, is_json in columns.items()
    ]
    return SQL("'{{' || concat_ws(',', {}) || '}}'").format(SQL(", ").join(members))
