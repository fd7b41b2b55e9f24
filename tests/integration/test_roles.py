"""deploy/roles.sql: the fleet works with the rights it needs, and nobody but the owner has more."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import yaml
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.embedded.find import find_postgres
from persistence.errors import Afu9Error
from persistence.migrate import migrate, schema_text
from persistence.pool import Pool, connect, run
from persistence.settings import Settings
from tests.deployed import DEPLOY
from tests.fleet import Fleet, bare_server, environment, mcp_config, wait_at_rest
from tests.workflows import sequence

ROLES = DEPLOY / "roles.sql"
ROWS = {"SELECT", "INSERT", "UPDATE", "DELETE"}
LESS = {
    "workflow_step_results": {"SELECT", "INSERT"},
    "afu9_migrations": {"SELECT"},
    "workflow_events": {"SELECT", "INSERT"},
    "audit_log": {"SELECT", "INSERT"},
    "workflow_definitions": {"SELECT", "INSERT"},
    "mcp_tool_versions": {"SELECT", "INSERT"},
}


def give_roles(dsn: str, **variables: str) -> None:
    """As an operator does it."""
    words = [word for name, value in variables.items() for word in ("-v", f"{name}={value}")]
    command = [str(find_postgres() / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *words, "-f", str(ROLES), dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def logins(dsn: str) -> Iterator[dict[str, str]]:
    """A login role for each group, by its URL; roles.sql was run twice."""
    names = {group: f"{group}_{uuid4().hex[:8]}" for group in ("app", "reader")}
    with psycopg.connect(dsn, autocommit=True) as owner:
        for name in names.values():
            owner.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(name)))
        for _ in range(2):
            give_roles(dsn, app_login=names["app"], reader_login=names["reader"])
        yield {group: make_conninfo(dsn, user=name) for group, name in names.items()}
        for name in names.values():
            owner.execute(SQL("DROP OWNED BY {}").format(Identifier(name)))
            owner.execute(SQL("DROP ROLE {}").format(Identifier(name)))


def test_the_compose_file_makes_the_login_of_the_fleet(dsn: str, tmp_path: Path) -> None:
    """The command of its service `roles`, as it stands there; run again, it sets a new password."""
    service = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())["services"]["roles"]
    name, script = f"fleet_{uuid4().hex[:8]}", service["command"][0].replace("$$", "$").replace("/sql/", f"{DEPLOY}/")
    here = {key: str(value) for key, value in conninfo_to_dict(dsn).items()}
    variables = {
        "PATH": f"{find_postgres()}:{os.environ['PATH']}",
        **{key: value.replace("/run/secrets", str(tmp_path)) for key, value in service["environment"].items()},
        "PGHOST": here["host"],
        "PGPORT": here["port"],
        "PGDATABASE": here["dbname"],
        "PGUSER": here["user"],
    }
    (tmp_path / "owner_password").write_text("anything")
    kept = set()
    try:
        for password in ("one'two", 'three"four\n'):
            (tmp_path / "fleet_password").write_text(password)
            command = script.replace("/run/secrets", str(tmp_path)).replace("afu9_fleet", name)
            done = subprocess.run(
                ["sh", "-c", command], env=variables, capture_output=True, text=True, check=False, timeout=60
            )
            assert done.returncode == 0, done.stderr
            with psycopg.connect(dsn, autocommit=True) as owner:
                asked = (
                    "SELECT rolpassword, pg_has_role(rolname, 'afu9_app', 'member') FROM pg_authid WHERE rolname = %s"
                )
                kept.add(owner.execute(asked, (name,)).fetchone())
        assert [member for _, member in kept if member] == [True, True]
        assert all(secret.startswith("SCRAM") for secret, _ in kept)
    finally:
        with psycopg.connect(dsn, autocommit=True) as owner:
            owner.execute(SQL("DROP OWNED BY {}").format(Identifier(name)))
            owner.execute(SQL("DROP ROLE {}").format(Identifier(name)))


def test_a_fleet_runs_with_the_rights_of_afu9_app(
    logins: dict[str, str], settings: Settings, pool: Pool, tmp_path: Path
) -> None:
    """Orchestrator, worker, run, ls, show, tools, doctor; a retry and a failure too, for their events."""
    (tmp_path / "logs").mkdir()
    flow = tmp_path / "flow.json"
    flow.write_text('{"steps": [{"name": "a", "tool": "bare.echo", "params": {"n": "${input.n}"}, "assign": "a"}]}')
    with bare_server() as url:
        config = mcp_config(tmp_path, bare={"url": url, "protocol": "jsonrpc"})
        fleet = Fleet(
            environment(settings.model_copy(update={"database_url": logins["app"]}), config), tmp_path / "logs"
        )
        try:
            fleet.start("orchestrator")
            worker = fleet.start("worker")
            failing = sequence(1, tool="bare.absent", retry={"maxAttempts": 2, "initialDelayMs": 100})
            bad = Submitter(pool, None).submit(failing, [Request(input={"n": 1})])[0].execution_id
            assert fleet.start("run", str(flow), "-i", "n=1").wait(60) == 0, fleet.log()
            with pool.connection() as connection:
                connection.execute("UPDATE workflow_steps SET dispatch_after = now() WHERE dispatch_after IS NOT NULL")
            wait_at_rest(pool, [bad], 30)
            for command in (["ls"], ["show", str(bad)], ["tools"], ["doctor"], ["migrate", "--check"]):
                assert fleet.start(*command).wait(60) == 0, fleet.log()
            assert fleet.start("migrate").wait(60) == 0, "nothing is missing, so nothing is refused"
            worker.terminate()
            assert worker.wait(20) == 0
        finally:
            fleet.end()
    with pool.connection() as connection:
        event = connection.execute("SELECT count(*) AS n FROM workflow_events").fetchone()
    assert event is not None
    assert event["n"] >= 1
    assert "permission denied" not in fleet.log()


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE mine (n INTEGER)",
        "CREATE TEMPORARY TABLE mine (n INTEGER)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS INTEGER LANGUAGE sql AS 'SELECT 1'",
        "ALTER TABLE workflow_steps ADD COLUMN mine INTEGER",
        "CREATE INDEX mine ON workflow_steps (tool)",
        "DROP TABLE workflow_steps",
        "DROP FUNCTION next_dispatch()",
        "TRUNCATE workflow_events",
        "TRUNCATE workflow_steps",
        "UPDATE workflow_events SET message = 'other'",
        "DELETE FROM workflow_events",
        "UPDATE workflow_definitions SET plan = '[]'",
        "INSERT INTO afu9_migrations (version, name, checksum) VALUES (99, 'x', 'x')",
        "GRANT SELECT ON workflow_steps TO PUBLIC",
        "ALTER ROLE afu9_app SUPERUSER",
        "CREATE ROLE mine",
    ],
)
def test_the_app_cannot(logins: dict[str, str], text: str) -> None:
    """Neither make nor change, drop, empty or grant; history and definitions stay as they are."""
    with psycopg.connect(logins["app"]) as connection:
        if text.startswith("GRANT"):
            connection.execute(text.encode())  # a warning, and nothing is granted
            granted = "SELECT has_table_privilege('public', 'workflow_steps', 'SELECT')"
            assert connection.execute(granted.encode()).fetchone() == (False,)
        else:
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO workers (id, role, hostname, pid, threads) VALUES (gen_random_uuid(), 'x', 'x', 1, 1)",
        "UPDATE workflow_executions SET status = 'failed'",
        "DELETE FROM workflow_steps",
        "TRUNCATE workflow_steps",
        "CREATE TABLE mine (n INTEGER)",
        "SELECT finish_execution(gen_random_uuid(), 'failed', '')",
        "SELECT FROM workflow_steps FOR UPDATE",
    ],
)
def test_the_reader_cannot_write(logins: dict[str, str], text: str) -> None:
    """Not even after it has asked for a transaction that may."""
    with psycopg.connect(logins["reader"]) as connection:
        with pytest.raises((errors.ReadOnlySqlTransaction, errors.InsufficientPrivilege)):
            connection.execute(text.encode())
        connection.rollback()
        connection.execute("SET TRANSACTION READ WRITE")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(text.encode())


def test_the_reader_reads(logins: dict[str, str]) -> None:
    """Every table but the keys', and the whole context of an execution."""
    with psycopg.connect(logins["reader"]) as connection:
        for table in set(tables(connection)) - {"api_keys"}:
            connection.execute(SQL("SELECT * FROM {} LIMIT 1").format(Identifier(table)))
        connection.execute("SELECT execution_context(gen_random_uuid())")


def tables(connection: psycopg.Connection[tuple[str, ...]]) -> list[str]:
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
    return [row[0] for row in rows]


PRIVILEGES = """
SELECT c.relname, array_agg(p.name ORDER BY p.name) FILTER (WHERE has_table_privilege(%s, c.oid, p.name))
  FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p(name)
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') GROUP BY 1 ORDER BY 1
"""
UNCALLABLE = """
SELECT p.proname FROM pg_proc p
 WHERE p.pronamespace = 'public'::regnamespace AND NOT has_function_privilege(%s, p.oid, 'EXECUTE')
"""


def privileges(connection: psycopg.Connection[tuple[str, ...]], role: str) -> dict[str, set[str]]:
    return {row[0]: set(row[1] or []) for row in connection.execute(PRIVILEGES.encode(), (role,))}


def test_every_table_and_function_is_covered(logins: dict[str, str], dsn: str) -> None:
    """Exactly: rows for afu9_app, and less where LESS says so; reading for afu9_reader; nothing for PUBLIC."""
    with psycopg.connect(dsn) as owner:
        named = set(re.findall(r"^CREATE TABLE (\w+)", schema_text(), re.M)) | {"afu9_migrations"}
        assert privileges(owner, "afu9_app") == {table: LESS.get(table, ROWS) for table in named}
        readable = {table: set() if table == "api_keys" else {"SELECT"} for table in named}
        assert privileges(owner, "afu9_reader") == readable
        assert privileges(owner, "afu9_starter") == {table: set() for table in named}
        assert privileges(owner, "public") == {table: set() for table in named}
        assert owner.execute(UNCALLABLE.encode(), ("afu9_app",)).fetchall() == []
        functions = re.findall(r"^CREATE FUNCTION (\w+)", schema_text(), re.M)
        public = [row[0] for row in owner.execute(UNCALLABLE.encode(), ("public",))]
        assert sorted(public) == sorted(functions)


def test_what_a_later_migration_makes_is_covered(logins: dict[str, str], dsn: str) -> None:
    """Without running roles.sql again."""
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("CREATE TABLE later (n INTEGER GENERATED ALWAYS AS IDENTITY, word TEXT)")
        owner.execute("CREATE FUNCTION latest() RETURNS INTEGER LANGUAGE sql AS 'SELECT max(n) FROM later'")
        assert privileges(owner, "afu9_app")["later"] == ROWS
        assert privileges(owner, "afu9_reader")["later"] == {"SELECT"}
    with psycopg.connect(logins["app"]) as app:
        app.execute("INSERT INTO later (word) VALUES ('x')")
        assert app.execute("SELECT latest()").fetchone() == (1,)


@pytest.mark.parametrize(
    ("group", "limits"), [("app", ("30s", "30s", "10s", "off")), ("reader", ("15s", "30s", "2s", "on"))]
)
def test_members_have_limits_of_time(logins: dict[str, str], group: str, limits: tuple[str, ...]) -> None:
    """PostgreSQL does not inherit settings from a group: each member has them."""
    names = (
        "statement_timeout",
        "idle_in_transaction_session_timeout",
        "lock_timeout",
        "default_transaction_read_only",
    )
    with psycopg.connect(logins[group]) as connection:
        row = connection.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in names)).fetchone()  # type: ignore[arg-type]
    assert row == limits


def test_a_migration_by_the_app_is_refused_in_a_sentence(logins: dict[str, str], dsn: str) -> None:
    """Not with a stack trace, and not half."""
    with connect(dsn) as owner:
        owner.execute("DELETE FROM afu9_migrations")
    with pytest.raises(Afu9Error, match="run `afu9 migrate` as its owner"):
        migrate(logins["app"])


def test_running_it_again_changes_nothing(dsn: str) -> None:
    """With or without login roles."""
    seen = []
    for _ in range(2):
        give_roles(dsn)
        with psycopg.connect(dsn) as owner:
            acls = "SELECT relname, relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
            defaults = "SELECT defaclobjtype::text, defaclacl::text FROM pg_default_acl ORDER BY 1"
            seen.append((owner.execute(acls.encode()).fetchall(), owner.execute(defaults.encode()).fetchall()))
    assert seen[0] == seen[1]


def test_an_owner_without_superuser_is_enough(empty_dsn: str) -> None:
    """CREATEROLE and a database of its own: it migrates, gives the roles, and migrates again."""
    name = f"owner_{uuid4().hex[:8]}"
    with psycopg.connect(empty_dsn, autocommit=True) as superuser:
        for group in ("afu9_app", "afu9_reader", "afu9_starter"):
            superuser.execute(
                SQL("DO $$ BEGIN CREATE ROLE {}; EXCEPTION WHEN duplicate_object THEN END $$").format(Identifier(group))
            )
        superuser.execute(SQL("CREATE ROLE {} LOGIN CREATEROLE").format(Identifier(name)))
        superuser.execute(
            SQL("GRANT afu9_app, afu9_reader, afu9_starter TO {} WITH ADMIN OPTION").format(Identifier(name))
        )
        database = psycopg.conninfo.conninfo_to_dict(empty_dsn)["dbname"]
        superuser.execute(SQL("ALTER DATABASE {} OWNER TO {}").format(Identifier(str(database)), Identifier(name)))
        owner = make_conninfo(empty_dsn, user=name)
        migrate(owner)
        give_roles(owner)
        give_roles(owner)
        with psycopg.connect(owner) as connection:
            assert privileges(connection, "afu9_app")["workflow_steps"] == ROWS
        assert migrate(owner) == []
        superuser.execute(SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(Identifier(name)))
        superuser.execute(SQL("DROP OWNED BY {}").format(Identifier(name)))
        superuser.execute(SQL("DROP ROLE {}").format(Identifier(name)))


def test_a_starter_starts_workflows_and_nothing_else(logins: dict[str, str], dsn: str, pool: Pool) -> None:
    """A service that starts workflows from SQL needs one right, and reads no row."""
    Submitter(pool, None).register(validate({"name": "greet", "steps": [{"name": "a", "tool": "t.a", "params": {}}]}))
    name = f"shop_{uuid4().hex[:8]}"
    with psycopg.connect(dsn, autocommit=True) as superuser:
        superuser.execute(SQL("CREATE ROLE {} LOGIN IN ROLE afu9_starter").format(Identifier(name)))
        with psycopg.connect(make_conninfo(dsn, user=name), autocommit=True) as shop:
            started = shop.execute("SELECT afu9_start_workflow('greet')").fetchone()
            assert started is not None
            for refused in ("SELECT FROM workflow_executions", "SELECT FROM workflows", "SELECT next_dispatch()"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    shop.execute(refused.encode())
        superuser.execute(SQL("DROP ROLE {}").format(Identifier(name)))
    (row,) = run(pool, "get_execution", {"id": started[0]})
    assert (row["status"], row["triggered_by"]) == ("running", name)
