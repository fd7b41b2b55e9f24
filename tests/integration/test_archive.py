"""Old executions leave into files, and come back as they were; nothing is deleted that is in no verified file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from orchestrator import archive as archiving
from orchestrator import restore as restoring
from orchestrator.archive import Archived, archive, preview
from orchestrator.outcome import Failed
from orchestrator.restore import Restored, restore
from persistence.archives.manifest import Manifest, read_manifest, write_manifest
from persistence.archives.rows import TABLES
from persistence.archives.store import Store
from persistence.errors import Afu9Error, InvalidInput, NotFound, Refused, SchemaMismatch, Unreachable
from persistence.errors import Archived as Gone
from persistence.executions import find_execution, get_execution, require_execution
from persistence.pool import Pool, open_pool, run
from tests.drive import drive, submit
from tests.workflows import FunctionTools, echo, sequence

DAY = 86_400.0
HASHES = " UNION ALL ".join(
    f"SELECT '{table}', count(*), md5(string_agg(t::text, ';' ORDER BY t.{key})) FROM {table} t"  # noqa: S608  # ours
    for table, (_, key) in TABLES.items()
)


def rows(pool: Pool) -> list[tuple[Any, ...]]:
    """Of each table: how many, and a hash over all their text."""
    with pool.connection() as connection:
        return [tuple(row.values()) for row in connection.execute(HASHES.encode())]


def sql(pool: Pool, text: str, *parameters: object) -> list[dict[str, Any]]:
    with pool.connection() as connection:
        cursor = connection.execute(text.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


def ids(pool: Pool) -> set[UUID]:
    return {row["id"] for row in sql(pool, "SELECT id FROM workflow_executions")}


def age(pool: Pool, execution: UUID, days: float = 100) -> UUID:
    """As if it had ended so long ago."""
    since = timedelta(days=days)
    sql(
        pool,
        "UPDATE workflow_executions SET created_at = created_at - %s, completed_at = completed_at - %s WHERE id = %s",
        since,
        since,
        execution,
    )
    sql(pool, "UPDATE workflow_steps SET completed_at = completed_at - %s WHERE execution_id = %s", since, execution)
    sql(pool, "UPDATE workflow_events SET created_at = created_at - %s WHERE execution_id = %s", since, execution)
    sql(
        pool,
        "UPDATE workflow_step_results SET completed_at = completed_at - %s WHERE execution_id = %s",
        since,
        execution,
    )
    return execution


def count_until(pool: Pool, ago: str) -> None:
    """The rollups are so far."""
    sql(pool, "DELETE FROM rollup_progress")
    sql(pool, "INSERT INTO rollup_progress (rolled_until) VALUES (now() - %s::interval)", ago)


def completed(pool: Pool, days: float = 100, **request: object) -> UUID:
    execution = submit(pool, sequence(2), **request)
    assert drive(pool, execution, FunctionTools(echo=echo)) == "completed"
    return age(pool, execution, days)


def rich(pool: Pool) -> UUID:
    """One that has rows in every table, and values that are easily lost."""
    odd = {"null": None, "big": 2**70, "text": 'a\\"\n\u2028ü', "empty": {}, "list": [None, []]}
    execution = submit(pool, sequence(2, config={"maxCost": 5}), input={"n": odd}, labels={"a": "b"})
    drive(pool, execution, FunctionTools(echo=lambda **_: Failed("tool_error", "no")))
    run(pool, "rerun_steps", rerun(execution))
    drive(pool, execution, FunctionTools(echo=lambda **given: None if given["value"] else odd))
    exact = '{"n": 1.10, "e": 1e400}'
    sql(pool, "UPDATE workflow_steps SET output = %s WHERE execution_id = %s AND step_index = 0", exact, execution)
    sql(pool, "INSERT INTO execution_budgets (execution_id) VALUES (%s) ON CONFLICT DO NOTHING", execution)
    return age(pool, execution)


def rerun(execution: UUID) -> dict[str, Any]:
    return {
        "execution_id": execution,
        "action": "rerun",
        "steps": [0, 1],
        "overrides": "{}",
        "expected": "failed",
        "actor": "ada",
        "reason": None,
    }


@pytest.fixture
def counted(pool: Pool) -> Pool:
    count_until(pool, "1 minute")
    return pool


@pytest.fixture
def place(tmp_path: Path) -> str:
    return (tmp_path / "archive").as_uri()


def only_manifest(place: str, done: Archived) -> Manifest:
    assert done.location is not None
    return read_manifest(Store(done.location))


def test_they_go_and_come_back_as_they_were(counted: Pool, dsn: str, place: str) -> None:
    """Every table, to the last character; those that are young or run stay where they are."""
    pool = counted
    young = [completed(pool, 10), submit(pool, sequence(1))]
    before_young = rows(pool)
    old = [completed(pool), rich(pool)]
    before = rows(pool)
    assert all(row[1] for row in before), before
    done = archive(dsn, place, 90 * DAY, share=1)
    assert (done.executions, done.kept, done.files) == (2, 0, 1)
    assert ids(pool) == set(young)
    assert rows(pool) == before_young
    manifest = only_manifest(place, done)
    assert manifest.state == "complete"
    assert manifest.files[0].rows == {row[0]: row[1] - was[1] for row, was in zip(before, before_young, strict=True)}
    assert done.location is not None
    assert restore(dsn, done.location).executions == 2
    assert rows(pool) == before
    assert sql(pool, "SELECT * FROM archived_executions") == []
    assert restore(dsn, done.location) == Restored(there=2)
    assert rows(pool) == before
    assert sql(
        pool, "SELECT output = 'null' AS kept FROM workflow_steps WHERE execution_id = %s AND step_index = 1", old[1]
    ) == [{"kept": True}]


def test_every_table_that_belongs_to_an_execution_is_known(pool: Pool) -> None:
    """Whatever refers to an execution, or to something that does, in the catalogue; and its version tells of each."""
    referring = """
    WITH RECURSIVE r(oid) AS (SELECT 'workflow_executions'::regclass::oid UNION
      SELECT c.conrelid FROM pg_constraint c JOIN r ON c.confrelid = r.oid WHERE c.contype = 'f')
    SELECT oid::regclass::text AS name FROM r"""
    assert {row["name"] for row in sql(pool, referring)} == set(TABLES)
    execution = rich(pool)
    seen = {version(pool, execution)}
    for table, (owner, _) in TABLES.items():
        sql(pool, f"UPDATE {table} SET {owner} = {owner} WHERE {owner} = %s", execution)  # noqa: S608  # ours
        seen.add(version(pool, execution))
        if table != "workflow_executions":
            sql(pool, f"DELETE FROM {table} WHERE {owner} = %s", execution)  # noqa: S608  # ours
            seen.add(version(pool, execution))
    assert len(seen) == 2 * len(TABLES)


def version(pool: Pool, execution: UUID) -> str:
    found: str = sql(pool, "SELECT version FROM execution_version(%s)", execution)[0]["version"]
    return found


def test_a_file_is_json_lines(counted: Pool, dsn: str, place: str) -> None:
    """For readers that are not ours."""
    execution = completed(counted, input={"n": 7})
    done = archive(dsn, place, 90 * DAY, share=1)
    file = only_manifest(place, done).files[0]
    content = b"".join(Store(str(done.location)).read(file.name))
    lines = [json.loads(line) for line in gzip.decompress(content).splitlines()]
    assert list(lines[0]["batch"]) == [str(execution)]
    assert [line["table"] for line in lines[1:]] == ["workflow_executions", "workflow_steps", "workflow_steps"]
    assert lines[1]["row"]["input"] == {"n": 7}
    assert "error" not in lines[1]["row"]


def test_what_the_rollups_have_not_counted_stays(pool: Pool, dsn: str, place: str) -> None:
    """Without a count nothing goes; then only what ended, and whose last step and event were, before it."""
    early, late, later = completed(pool, 100), completed(pool, 100), completed(pool, 100)
    with pytest.raises(Refused, match="afu9 orchestrator"):
        archive(dsn, place, 90 * DAY, share=1)
    with pytest.raises(Refused, match="afu9 orchestrator"):
        preview(dsn, 90 * DAY)
    count_until(pool, "95 days")
    uncounted = completed(pool, 93)
    assert preview(dsn, 90 * DAY)["executions"] == 3
    sql(
        pool,
        "UPDATE workflow_steps SET completed_at = now() - interval '94 days' WHERE execution_id = %s AND step_index = 1",
        late,
    )
    sql(pool, "INSERT INTO workflow_events (execution_id, event) VALUES (%s, 'attempt_lost')", later)
    assert archive(dsn, place, 90 * DAY, share=1).executions == 1
    assert ids(pool) == {late, later, uncounted}
    with pytest.raises(Gone):
        require_execution(pool, early)


def test_the_rollup_counts_what_it_counted_before(pool: Pool, dsn: str, place: str) -> None:
    """An archive and a restore in between: the sums stay as they are."""
    completed(pool, 80)
    run(pool, "roll_up", {"lag": 0.0, "seconds": 86_400})
    while not (told := run(pool, "roll_up", {"lag": 0.0, "seconds": 86_400}))[0]["done"]:
        assert told
    counts = "SELECT (SELECT sum(endings) FROM execution_rollups) AS e, (SELECT sum(endings) FROM step_rollups) AS s"
    before = sql(pool, counts)
    assert before[0]["e"] > 0
    done = archive(dsn, place, 60 * DAY, share=1)
    assert done.executions == 1
    restore(dsn, str(done.location))
    while not run(pool, "roll_up", {"lag": 0.0, "seconds": 86_400})[0]["done"]:
        pass
    assert sql(pool, counts) == before


def test_what_a_job_is_for_stays(counted: Pool, dsn: str, place: str) -> None:
    """By its id, and what failed while a job retries by a filter."""
    pool = counted
    listed, other = completed(pool), completed(pool)
    failed = submit(pool, sequence(1))
    drive(pool, failed, FunctionTools(echo=lambda **_: Failed("tool_error", "no")))
    age(pool, failed)
    job = "INSERT INTO control_jobs (id, action, ids, filter, actor, status) VALUES (%s, 'retry', %s, %s, 'ada', 'running')"
    sql(pool, job, uuid4(), [listed], None)
    sql(pool, job, uuid4(), None, '{"statuses": ["failed"]}')
    assert archive(dsn, place, 90 * DAY, share=1).executions == 1
    assert ids(pool) == {listed, failed}
    sql(pool, "UPDATE control_jobs SET status = 'completed'")
    assert archive(dsn, place, 90 * DAY, share=1).executions == 2
    assert {row["execution_id"] for row in sql(pool, "SELECT execution_id FROM archived_executions")} == {
        listed,
        other,
        failed,
    }


def test_what_a_worker_still_holds_stays(counted: Pool, dsn: str, place: str) -> None:
    """A step of a cancelled execution ends with its attempt."""
    execution = completed(counted)
    sql(counted, "UPDATE workflow_steps SET worker_id = gen_random_uuid() WHERE execution_id = %s", execution)
    assert archive(dsn, place, 90 * DAY, share=1).location is None
    sql(counted, "UPDATE workflow_steps SET worker_id = NULL WHERE execution_id = %s", execution)
    assert archive(dsn, place, 90 * DAY, share=1).executions == 1


def test_the_origin_of_a_running_fork_may_go(counted: Pool, dsn: str, place: str) -> None:
    """What a fork took over is its own; its forked_from names what is archived."""
    origin, fork = completed(counted), submit(counted, sequence(1))
    sql(counted, "UPDATE workflow_executions SET forked_from = %s WHERE id = %s", origin, fork)
    assert archive(dsn, place, 90 * DAY, share=1).executions == 1
    assert drive(counted, fork, FunctionTools(echo=echo)) == "completed"


CHANGES: dict[str, str] = {
    "run again": "UPDATE workflow_executions SET status = 'running' WHERE id = %(id)s",
    "ended again": "UPDATE workflow_executions SET updated_at = now() WHERE id = %(id)s",
    "a step written": "UPDATE workflow_steps SET error = 'x' WHERE execution_id = %(id)s AND step_index = 1",
    "an event more": "INSERT INTO workflow_events (execution_id, event) VALUES (%(id)s, 'control')",
    "a step less": "DELETE FROM workflow_steps WHERE execution_id = %(id)s AND step_index = 1",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_after_it_was_written_stays(
    counted: Pool, dsn: str, place: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has a copy that nobody restores."""
    changed, other = completed(counted), completed(counted)
    after_reading(monkeypatch, lambda: sql(counted, CHANGES[change].replace("%(id)s", f"'{changed}'")))
    done = archive(dsn, place, 90 * DAY, share=1)
    assert (done.executions, done.kept) == (1, 1)
    assert ids(counted) == {changed}
    before = rows(counted)
    assert restore(dsn, str(done.location)) == Restored(executions=1, rows=3)
    assert ids(counted) == {changed, other}
    sql(counted, "DELETE FROM workflow_executions WHERE id = %s", other)
    assert rows(counted) == before


@pytest.mark.parametrize("table", ["workflow_executions", "workflow_steps"])
def test_what_somebody_holds_is_not_waited_for(
    counted: Pool, dsn: str, place: str, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays, whether or not they change it."""
    held, owner = completed(counted), TABLES[table][0]
    completed(counted)
    with psycopg.connect(dsn) as holder:
        take = f"SELECT FROM {table} WHERE {owner} = %s FOR NO KEY UPDATE".encode()
        after_reading(monkeypatch, lambda: holder.execute(take, (held,)))
        done = archive(dsn, place, 90 * DAY, share=1)
    assert (done.executions, done.kept) == (1, 1)
    assert ids(counted) == {held}


def after_reading(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Once, between the verified file and the deletion."""
    verify = archiving.verify

    def verify_and_act(*arguments: Any) -> Any:
        batches = verify(*arguments)
        act()
        return batches

    monkeypatch.setattr(archiving, "verify", verify_and_act)


def test_a_file_that_does_not_read_back_deletes_nothing(
    counted: Pool, dsn: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that lies; the next run begins anew."""
    completed(counted)
    before, put = rows(counted), Store.put

    def lose(store: Store, name: str, content: Any) -> None:
        put(store, name, content if name == "manifest.json" else content.read()[:-1])

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put", lose)
        with pytest.raises(InvalidInput, match="is damaged"):
            archive(dsn, place, 90 * DAY, share=1)
    assert rows(counted) == before
    done = archive(dsn, place, 90 * DAY, share=1)
    assert done.executions == 1
    assert len(done.resumed) == 1
    assert read_manifest(Store(done.resumed[0])).files == []
    assert Store(done.resumed[0]).names() == ["manifest.json"]


def test_many_files_of_many_batches(counted: Pool, dsn: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded ones, each with what it says, together all of it."""
    for _ in range(7):
        completed(counted)
    before = rows(counted)
    monkeypatch.setattr(archiving, "AT_ONCE", 2)
    monkeypatch.setattr(archiving, "FILE_EXECUTIONS", 4)
    done = archive(dsn, place, 90 * DAY, share=1)
    manifest = only_manifest(place, done)
    assert [file.executions for file in manifest.files] == [4, 3]
    assert ids(counted) == set()
    monkeypatch.setattr(restoring, "BYTES", 1000)
    monkeypatch.setattr(restoring, "ROWS", 3)
    assert restore(dsn, str(done.location)).executions == 7
    assert rows(counted) == before
    monkeypatch.setattr(archiving, "AT_ONCE", 500)
    monkeypatch.setattr(archiving, "ROWS_AT_ONCE", 6)
    monkeypatch.setattr(archiving, "FILE_EXECUTIONS", 1)
    assert [file.executions for file in only_manifest(place, archive(dsn, place, 90 * DAY, share=1)).files] == [
        2,
        2,
        2,
        1,
    ]


def test_one_comes_back_alone(counted: Pool, dsn: str, place: str) -> None:
    """And what its place says is right before and after."""
    one, other = completed(counted), completed(counted)
    done = archive(dsn, place, 90 * DAY, share=1)
    with pytest.raises(Gone, match=f"execution {one} was archived on .* to {done.location}.*--execution {one}"):
        find_execution(counted, str(one)[:13] if str(one)[:13] != str(other)[:13] else str(one))
    assert restore(dsn, str(done.location), one).executions == 1
    assert ids(counted) == {one}
    with pytest.raises(Gone):
        require_execution(counted, other)
    with pytest.raises(NotFound, match="holds no execution"):
        restore(dsn, str(done.location), uuid4())


def test_what_was_archived_again_comes_from_there(counted: Pool, dsn: str, place: str) -> None:
    """The first archive's copy is old."""
    one = completed(counted)
    first = archive(dsn, place, 90 * DAY, share=1)
    restore(dsn, str(first.location))
    sql(counted, "UPDATE workflow_executions SET title = 'newer' WHERE id = %s", one)
    with pytest.raises(InvalidInput, match="another row stands in the way of workflow_executions"):
        restore(dsn, str(first.location))
    second = archive(dsn, place, 90 * DAY, share=1)
    assert restore(dsn, str(first.location)) == Restored(elsewhere=1)
    with pytest.raises(InvalidInput, match="archived again"):
        restore(dsn, str(first.location), one)
    restore(dsn, str(second.location))
    assert require_execution(counted, one)["title"] == "newer"


def test_a_key_that_was_used_again_stands_in_the_way(counted: Pool, dsn: str, place: str) -> None:
    """With its execution it leaves; who takes it meanwhile keeps it."""
    one = completed(counted, idempotency_key="k")
    done = archive(dsn, place, 90 * DAY, share=1)
    again = submit(counted, sequence(1), idempotency_key="k")
    assert again != one
    with pytest.raises(InvalidInput, match=f"in the way of workflow_executions {one}"):
        restore(dsn, str(done.location))
    assert ids(counted) == {again}


@pytest.mark.parametrize("damage", ["a byte", "the file", "the manifest", "its checksum"])
def test_a_damaged_archive_puts_nothing_back(
    counted: Pool, dsn: str, place: str, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even what is whole: the second of two files."""
    monkeypatch.setattr(archiving, "FILE_EXECUTIONS", 1)
    monkeypatch.setattr(archiving, "AT_ONCE", 1)
    for _ in range(2):
        completed(counted)
    done = archive(dsn, place, 90 * DAY, share=1)
    (folder,) = (tmp_path / "archive").iterdir()
    file, manifest = folder / "00002.jsonl.gz", folder / "manifest.json"
    match damage:
        case "a byte":
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
        case "the file":
            file.unlink()
        case "the manifest":
            manifest.write_bytes(manifest.read_bytes()[:-10])
        case "its checksum":
            told = read_manifest(Store(str(done.location)))
            told.files[1].sha256 = "0" * 64
            write_manifest(Store(str(done.location)), told)
    with pytest.raises((InvalidInput, NotFound), match=r"is damaged|there is no"):
        restore(dsn, str(done.location))
    assert ids(counted) == set()


def test_columns_come_and_go(counted: Pool, dsn: str, place: str) -> None:
    """A column that the archive does not have gets its default; one that the database lacks is refused."""
    one = completed(counted)
    done = archive(dsn, place, 90 * DAY, share=1)
    sql(counted, "ALTER TABLE workflow_steps ADD COLUMN flavour TEXT NOT NULL DEFAULT 'plain'")
    assert restore(dsn, str(done.location)).executions == 1
    assert sql(counted, "SELECT DISTINCT flavour FROM workflow_steps") == [{"flavour": "plain"}]
    later = archive(dsn, place, 90 * DAY, share=1)
    sql(counted, "ALTER TABLE workflow_steps DROP COLUMN flavour")
    with pytest.raises(SchemaMismatch, match=r"workflow_steps\.flavour"):
        restore(dsn, str(later.location))
    assert get_execution(counted, one) is None


def test_a_later_format_is_refused(dsn: str, place: str, tmp_path: Path) -> None:
    """By its number, whatever else is in it."""
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "manifest.json").write_text('{"format": 2, "new": 1}')
    with pytest.raises(Afu9Error, match="format 2"):
        restore(dsn, place)


def test_another_database_takes_them(counted: Pool, dsn: str, empty_dsn: str, place: str, template: str) -> None:
    """If it knows their definitions; what it counts itself goes on after their numbers."""
    from persistence.migrate import migrate

    one = rich(counted)
    sql(counted, "SELECT setval(pg_get_serial_sequence('workflow_events', 'id'), 1000)")
    sql(
        counted,
        "INSERT INTO workflow_events (execution_id, event, created_at) VALUES (%s, 'control', now() - interval '99 days')",
        one,
    )
    before = rows(counted)
    definitions = sql(
        counted, "SELECT hash, definition::text AS definition, plan::text AS plan FROM workflow_definitions"
    )
    done = archive(dsn, place, 90 * DAY, share=1)
    migrate(empty_dsn)
    with open_pool(empty_dsn) as other:
        with pytest.raises(InvalidInput, match="definition_hash"):
            restore(empty_dsn, str(done.location))
        assert ids(other) == set()
        for row in definitions:
            sql(other, "INSERT INTO workflow_definitions (hash, definition, plan) VALUES (%s, %s, %s)", *row.values())
        restore(empty_dsn, str(done.location))
        assert rows(other) == before
        new = sql(other, "INSERT INTO workflow_events (execution_id, event) VALUES (%s, 'control') RETURNING id", one)
        assert new[0]["id"] > 1001


def test_a_preview_counts_by_month_and_changes_nothing(counted: Pool, dsn: str) -> None:
    """Months of UTC; bytes as in a file."""
    for days in (100, 100, 160):
        completed(counted, days)
    before = rows(counted)
    told = preview(dsn, 90 * DAY)
    assert sum(month["executions"] for month in told["months"]) == told["executions"] == 3
    assert [month["month"] for month in told["months"]] == sorted(month["month"] for month in told["months"])
    assert 100 < told["bytes"] < 10_000
    assert rows(counted) == before
    assert preview(dsn, 9000 * DAY)["executions"] == 0


def test_nothing_old_leaves_nothing(counted: Pool, dsn: str, place: str, tmp_path: Path) -> None:
    """No directory, no row."""
    completed(counted, 10)
    done = archive(dsn, place, 90 * DAY, share=1)
    assert (done.location, done.executions) == (None, 0)
    assert not (tmp_path / "archive").exists()
    assert sql(counted, "SELECT * FROM workflow_archives") == []


@pytest.mark.parametrize("target", ["under a file", "s3 that nobody answers"])
def test_a_place_that_takes_nothing(
    counted: Pool, dsn: str, tmp_path: Path, target: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is deleted, and the next run elsewhere or there is a new one."""
    completed(counted)
    before = rows(counted)
    (tmp_path / "file").write_text("")
    to = (tmp_path / "file" / "x").as_uri() if target == "under a file" else "s3://bucket/prefix"
    given = {"ENDPOINT_URL": "http://127.0.0.1:9", "ALLOW_HTTP": "true", "REGION": "us-east-1"}
    for name, value in {**given, "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "y"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(Unreachable, match="cannot write"):
        archive(dsn, to, 90 * DAY, share=1)
    assert rows(counted) == before
    assert archive(dsn, place, 90 * DAY, share=1).executions == 1


def test_two_at_once(counted: Pool, dsn: str, place: str) -> None:
    """The second says so, a restore too."""
    completed(counted)
    with archiving.locked(dsn):
        with pytest.raises(Refused, match="another archive or restore"):
            archive(dsn, place, 90 * DAY, share=1)
        with pytest.raises((Refused, NotFound)):
            restore(dsn, place)
    assert archive(dsn, place, 90 * DAY, share=1).executions == 1
