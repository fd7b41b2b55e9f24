"""Moves executions that ended long ago into files, and out of the tables. One at a time.

Invariant: what is deleted is in a file that was read back and whose checksum is in the manifest, in the version in which it
is deleted (delete_archived in schema.sql). So it may die at any point: the next run goes on with the deletions of the last,
and writes what is in no finished file anew. Executions that the rollups have not counted stay.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event
from typing import Any
from uuid import UUID

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import DictRow

from persistence.archives.files import Writing, verify
from persistence.archives.manifest import File, Manifest, read_manifest, write_manifest
from persistence.archives.rows import TABLES, columns_of, read_rows
from persistence.archives.store import Store
from persistence.connection import Connection
from persistence.errors import Afu9Error, NotFound, Refused, Unreachable
from persistence.ids import time_ordered_uuid
from persistence.migrate import migrations
from persistence.pool import connect, translated
from persistence.statements import statement

AT_ONCE = 500  # executions that one transaction reads or deletes,
ROWS_AT_ONCE = 10_000  # or as many as have so many rows
FILE_BYTES = 16 * 2**20  # compressed; a file ends with the batch that exceeds it,
FILE_EXECUTIONS = 10_000  # or that reaches so many
BEGIN = ("-infinity", UUID(int=0))  # before all executions
SHARE = 0.1  # of the time in which it works


@dataclass(frozen=True, slots=True)
class Archived:
    """What a run did. location: of its directory, None if there was nothing to do. kept: executions that changed after they
    were written, and stayed. resumed: runs that were interrupted, and are finished now."""

    location: str | None
    older_than: datetime
    executions: int = 0
    kept: int = 0
    files: int = 0
    bytes: int = 0
    resumed: tuple[str, ...] = ()


@dataclass(slots=True)
class Pace:
    """Pauses after each piece of work, so long that only `share` of the time goes to work: a database that is slower, because
    others use it, is left alone for longer."""

    share: float
    _begin: float = field(default_factory=time.monotonic)

    def rest(self) -> None:
        worked = time.monotonic() - self._begin
        if self.share < 1:
            Event().wait(worked * (1 / self.share - 1))
        self.go_on()

    def go_on(self) -> None:
        """Without a pause: what took so long was not the database's work."""
        self._begin = time.monotonic()


def archive(
    dsn: str, to: str, older_than_seconds: float, *, share: float = SHARE, tell: Callable[[str], None] = lambda _: None
) -> Archived:
    """`to`: as location_of gives it. `tell` hears of each file. Raises Refused if another archive or restore is under way or
    nothing has been counted yet, Unreachable for a place that takes no files."""
    Store(to)  # without the extra there is nothing to do
    with locked(dsn) as writer, connect(dsn) as reader:
        reader.execute("SET statement_timeout = 0")  # large rows may take long to be packed
        reader.isolation_level = IsolationLevel.REPEATABLE_READ
        bound = bounds(writer, older_than_seconds)
        return _Run(writer, reader, to, bound, Pace(share), tell).work()


def preview(dsn: str, older_than_seconds: float) -> dict[str, Any]:
    """What `archive` would take at most: {olderThan, executions, bytes, months (UTC): [{month, executions, bytes}]}. bytes:
    of the files, as the oldest executions give reason to expect."""
    with translated(), connect(dsn) as connection, tempfile.TemporaryFile() as sample:
        older_than = bounds(connection, older_than_seconds)["older_than"]
        months = connection.execute(statement("archivable_months"), {"older_than": older_than}).fetchall()
        given = {"older_than": older_than, "after_at": BEGIN[0], "after_id": BEGIN[1], "limit": AT_ONCE}
        found = connection.execute(statement("archivable_executions"), given).fetchall()
        writing = Writing(sample)
        for table in TABLES:
            for text in read_rows(connection, table, columns_of(connection, table), [row["id"] for row in found]):
                writing.add(table, text)
        each = writing.close() / max(len(found), 1)
    sized = [{**row, "bytes": round(row["executions"] * each)} for row in months]
    total = sum(row["executions"] for row in sized)
    return {"olderThan": older_than, "executions": total, "bytes": round(total * each), "months": sized}


def bounds(connection: Connection, older_than_seconds: float) -> DictRow:
    """older_than, the end of what may be archived, and rolled_until."""
    row = connection.execute(statement("archive_bound"), {"seconds": older_than_seconds}).fetchone()
    if row is None:
        raise Refused("nothing has been counted yet, and counts must outlive the executions: start `afu9 orchestrator`")
    return row


@contextmanager
def locked(dsn: str) -> Iterator[Connection]:
    """A connection whose owner alone archives or restores."""
    try:
        with translated(), connect(dsn) as connection:
            connection.execute("SET statement_timeout = 0")  # else many large rows could never be deleted
            row = connection.execute(statement("lock_archive")).fetchone()
            if not (row and row["locked"]):
                raise Refused("another archive or restore of this database is under way: try again when it has ended")
            try:
                yield connection
            finally:
                with suppress(psycopg.Error):  # else it ends when the server notices
                    connection.execute(statement("unlock_archive"))
    except OSError as error:  # of the copies on this machine: a store's are translated
        raise Unreachable(f"this machine's disk does not take a file's copy: {error}") from error
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction) as error:
        reason = str(error).partition("\n")[0]
        raise Afu9Error(
            f"this role may not do it ({reason}): use one of afu9_app, or the owner (deploy/roles.sql)"
        ) from None


@dataclass(slots=True)
class _Run:
    writer: Connection
    reader: Connection
    to: str
    bound: DictRow
    pace: Pace
    tell: Callable[[str], None]
    after: tuple[datetime | str, UUID] = BEGIN

    def work(self) -> Archived:
        resumed = [row["location"] for row in self._query("open_archives") if self._finish(row)]
        chunk = self._next()
        if not chunk:
            return Archived(None, self.bound["older_than"], resumed=tuple(resumed))
        identity = time_ordered_uuid()
        store = Store(f"{self.to}/{identity}")
        given = {"id": identity, "location": store.location, "older_than": self.bound["older_than"]}
        (begun,) = self._query("begin_archive", **given)
        manifest = Manifest(
            archive=identity,
            schema_version=migrations()[-1].version,
            older_than=self.bound["older_than"].isoformat(),
            created_at=begun["created_at"].isoformat(),
            columns={table: list(columns_of(self.writer, table)) for table in TABLES},
        )
        write_manifest(store, manifest)
        while chunk:
            file, chunk = self._write(store, f"{len(manifest.files) + 1:05}.jsonl.gz", chunk)
            if file is not None:
                self._take(store, manifest, file)
        self._end(store, manifest)
        return Archived(
            store.location,
            self.bound["older_than"],
            manifest.executions,
            sum(len(file.kept or ()) for file in manifest.files),
            len(manifest.files),
            sum(file.bytes for file in manifest.files),
            tuple(resumed),
        )

    def _write(self, store: Store, name: str, chunk: Sequence[DictRow]) -> tuple[File | None, Sequence[DictRow]]:
        """One file, and what comes after it. None if all of it changed meanwhile."""
        with tempfile.TemporaryFile(prefix="afu9-archive-") as local:
            writing = Writing(local)
            while chunk:
                self._add(writing, {row["id"]: row["version"] for row in chunk})
                self.pace.rest()
                chunk = self._next()
                if writing.bytes >= FILE_BYTES or writing.executions >= FILE_EXECUTIONS:
                    break
            if not writing.executions:
                return None, chunk
            file = writing.end(name)
            local.seek(0)
            store.put(name, local)
        self.pace.go_on()
        return file, chunk

    def _add(self, writing: Writing, chosen: dict[UUID, str]) -> None:
        """All rows of these executions as they are at one moment, unless they are no longer what was chosen."""
        with self.reader.transaction():
            rows = self.reader.execute(statement("execution_versions"), {"ids": list(chosen)}).fetchall()
            found = {row["id"]: row["version"] for row in rows if row["version"] == chosen[row["id"]]}
            if not found:
                return
            writing.begin(found)
            for table in TABLES:
                for text in read_rows(self.reader, table, columns_of(self.reader, table), list(found)):
                    writing.add(table, text)

    def _take(self, store: Store, manifest: Manifest, file: File) -> None:
        """Reads the file back, puts it into the manifest, and deletes what it holds."""
        batches = verify(store, file)
        manifest.files.append(file)
        write_manifest(store, manifest)
        self.pace.rest()
        self._delete(store, manifest, file, batches)

    def _delete(self, store: Store, manifest: Manifest, file: File, batches: Sequence[dict[UUID, str]]) -> None:
        kept: list[UUID] = []
        for batch in batches:
            given = {"archive": manifest.archive, "ids": list(batch), "versions": list(batch.values())}
            self._query("delete_archived", **given)
            kept += self._kept(manifest, batch)
            self.pace.rest()
        file.kept = kept
        write_manifest(store, manifest)
        self.tell(f"{store.location}/{file.name}: {file.executions - len(kept)} executions, {file.bytes} bytes")

    def _kept(self, manifest: Manifest, batch: dict[UUID, str]) -> list[UUID]:
        gone = {
            row["execution_id"]
            for row in self._query("archived_where", ids=list(batch))
            if row["archive"] == manifest.archive
        }
        return [one for one in batch if one not in gone]

    def _finish(self, row: DictRow) -> bool:
        """The deletions of a run that was interrupted; whether it was one of this place."""
        if row["location"] != f"{self.to}/{row['id']}":
            self.tell(f"{row['location']} was interrupted; `afu9 archive --to` its place finishes it")
            return False
        store = Store(row["location"])
        try:
            manifest = read_manifest(store)
        except NotFound:
            if row["executions"]:
                raise
            self._query("drop_archive", id=row["id"])
            return False
        for name in set(store.names()) - {file.name for file in manifest.files} - {"manifest.json"}:
            store.delete(name)  # it was not finished, and nothing of it is deleted
        for file in manifest.files:
            if file.kept is None:
                self._delete(store, manifest, file, verify(store, file))
        self._end(store, manifest)
        return True

    def _end(self, store: Store, manifest: Manifest) -> None:
        manifest.state = "complete"
        write_manifest(store, manifest)
        self._query("end_archive", id=manifest.archive)

    def _next(self) -> Sequence[DictRow]:
        """The next executions that may go, about as many as one transaction takes; none at the end."""
        while True:
            at, identity = self.after
            given = {"older_than": self.bound["older_than"], "after_at": at, "after_id": identity, "limit": AT_ONCE}
            found = self._query("archivable_executions", **given)
            if not found:
                return []
            chosen: list[DictRow] = []
            rows = 0
            for row in found:
                if chosen and rows + row["row_count"] > ROWS_AT_ONCE:
                    break
                self.after = (row["completed_at"], row["id"])
                if not row["wanted"] and row["active_at"] < self.bound["rolled_until"]:
                    chosen.append(row)
                    rows += row["row_count"]
            if chosen:
                return chosen

    def _query(self, name: str, **parameters: Any) -> list[DictRow]:
        cursor = self.writer.execute(statement(name), parameters)
        return cursor.fetchall() if cursor.description else []
