"""Puts archived executions back into the tables, as they were. May be run again, and goes on where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from uuid import UUID

from orchestrator.archive import locked
from persistence.archives.files import Batch, Line, fetch, read_batches
from persistence.archives.manifest import Manifest, read_manifest
from persistence.archives.rows import NUMBERED, insert_rows, known_columns, raise_identity
from persistence.archives.store import Store
from persistence.connection import Connection
from persistence.errors import InvalidInput, NotFound
from persistence.statements import statement

ROWS = 1000  # in one statement,
BYTES = 8 * 2**20  # or as many as exceed so much
Columns = Mapping[str, Mapping[str, bool]]


@dataclass(frozen=True, slots=True)
class Restored:
    """rows: put back; there: executions that were in the tables already; elsewhere: those that were archived again since."""

    executions: int = 0
    rows: int = 0
    there: int = 0
    elsewhere: int = 0

    def __add__(self, other: Restored) -> Restored:
        return Restored(
            self.executions + other.executions,
            self.rows + other.rows,
            self.there + other.there,
            self.elsewhere + other.elsewhere,
        )


def restore(
    dsn: str, location: str, only: UUID | None = None, tell: Callable[[str], None] = lambda _: None
) -> Restored:
    """All executions of an archive, or one. Nothing is put back before every file that is needed has its checksum. Raises
    NotFound if the one is not in it, InvalidInput for a damaged file, or rows that differ from those in the tables,
    SchemaMismatch for columns that this database does not have."""
    store = Store(location)
    manifest = read_manifest(store)
    files = [file for file in manifest.files if only is None or file.first_id <= only <= file.last_id]
    with locked(dsn) as connection:
        columns = known_columns(connection, manifest.columns)
        for file in files:
            with fetch(store, file):
                tell(f"{store.location}/{file.name}: the checksum is right")
        done, found = Restored(), False
        for file in files:
            with fetch(store, file) as copy:
                for batch in read_batches(copy):
                    wanted = (
                        set(batch.versions) - set(file.kept or ()) if only is None else {only} & set(batch.versions)
                    )
                    if wanted:
                        found = True
                        done += _restore_batch(connection, manifest, columns, batch, wanted, only is not None)
        if only is not None and not found:
            raise NotFound(f"{location} holds no execution {only}")
    return done


def _restore_batch(
    connection: Connection, manifest: Manifest, columns: Columns, batch: Batch, wanted: set[UUID], must: bool
) -> Restored:
    """These executions of a batch, in one transaction."""
    with connection.transaction():
        marks = connection.execute(statement("archived_where"), {"ids": list(wanted)}).fetchall()
        elsewhere = {row["execution_id"] for row in marks if row["archive"] != manifest.archive}
        if elsewhere and must:
            raise InvalidInput(f"execution {elsewhere.pop()} was archived again since: `afu9 show` tells where it is")
        wanted -= elsewhere
        executions = rows = 0
        highest: dict[str, int] = {}
        lines = batch.lines
        if wanted != set(batch.versions):
            lines = (line for line in lines if line.execution in wanted)
        for table, group in groupby(lines, lambda line: line.table):
            for some in _portions(group):
                inserted = insert_rows(connection, table, columns[table], [line.text for line in some])
                rows += inserted
                executions += inserted if table == "workflow_executions" else 0
                if table in NUMBERED:
                    highest[table] = max(highest.get(table, 0), *(line.id for line in some))
        ours = connection.execute(statement("archive_is_ours"), {"id": manifest.archive}).fetchone()
        if not (ours and ours["ours"]):
            for table, number in highest.items():
                raise_identity(connection, table, number)
        connection.execute(statement("forget_archived"), {"ids": list(wanted)})
    return Restored(executions, rows, len(wanted) - executions, len(elsewhere))


def _portions(lines: Iterable[Line]) -> Iterator[list[Line]]:
    portion: list[Line] = []
    size = 0
    for line in lines:
        portion.append(line)
        size += len(line.text)
        if len(portion) == ROWS or size >= BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
