"""Comparisons by the API, the client and the command, the previous good run, and the history of tools' schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from click.testing import CliRunner

from control_center.cli import root
from control_center.client import Client, NotFound
from control_center.keys import Trust
from orchestrator.compare_stored import compare_stored
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence import errors
from persistence.migrate import migrations
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.api_server import running_api
from tests.integration.test_api import make_key, problem
from tests.integration.test_transitions import WORKER, charge, renew, take
from tests.steps import complete
from workers.engine import WorkflowEngine
from workers.keep_catalogue import refresh
from workers.mcp_client import McpClient

FLOW = {
    "name": "sum_up",
    "steps": [
        {"name": "fetch", "tool": "test.fetch", "params": {"n": "${input.n}"}, "assign": "found"},
        {"name": "total", "tool": "test.total", "params": {"of": "${found}"}, "assign": "total"},
    ],
}


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx.Client]:
    with running_api(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def ran(pool: Pool, *outputs: Any, flow: dict[str, Any] = FLOW, n: int = 2**53 + 1, fail: bool = False) -> UUID:
    """An execution with these outputs, recorded as a worker does it."""
    renew(pool, WORKER)
    submitted = Submitter(pool, None).submit(validate(flow), [Request(input={"n": n})])[0]
    ready = submitted.ready
    for output in outputs:
        claim = take(pool, ready[0])
        ready = complete(pool, claim, json.dumps(output)).ready
    if fail:
        charge(pool, take(pool, ready[0]), retryable=False)
    return submitted.execution_id


def text(*command: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(root, command, standalone_mode=False)
    if isinstance(result.exception, errors.Afu9Error):
        return result.exception.exit_code, result.stdout, str(result.exception)
    assert result.exception is None or isinstance(result.exception, Exception), result
    return result.return_value if result.exception is None else 2, result.stdout, result.stderr


def test_the_api_the_client_and_the_command_say_the_same(
    api: httpx.Client, pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte, with the database as over HTTP; numbers stay as they are."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    url = str(api.base_url)
    a, b = ran(pool, [1, 2], {"sum": 2**53}), ran(pool, [1, 2], {"sum": 2**53 + 1, "é": [None]})
    answer = api.get("/api/workflow/compare", params={"a": str(a), "b": str(b)}).json()
    first = answer["firstDivergence"]
    assert (first["what"], first["step"], first["iteration"]) == ("output", "total", 0)
    assert first["change"] == {"kind": "changed", "path": "/sum", "origin": "/sum", "before": 2**53, "after": 2**53 + 1}
    assert answer["sentence"] == (
        "First divergence at step total, in the output: /sum was 9007199254740992 and is 9007199254740993."
    )
    assert {key: answer["summary"][key] for key in ("same", "changed", "added", "removed")} == {
        "same": 1,
        "changed": 1,
        "added": 0,
        "removed": 0,
    }
    assert (answer["a"]["id"], answer["b"]["id"], answer["a"]["workflow"]) == (str(a), str(b), "sum_up")
    here, there = [text("diff", str(a), str(b), "--json", *way) for way in ((), ("--url", url))]
    assert here == there
    assert json.loads(here[1]) == answer
    assert list(json.loads(here[1])) == list(answer)
    shown = [text("diff", str(a)[:30], str(b)[:30], *way) for way in ((), ("--url", url))]
    assert shown[0] == shown[1]
    code, out, _ = shown[0]
    assert (code, out.splitlines()[0]) == (0, answer["sentence"])
    assert "  ≠ total" in out
    with Client(url) as client:
        comparison = client.compare(a, b)
    assert comparison.first_divergence is not None
    assert comparison.first_divergence.change.after == 2**53 + 1
    assert comparison.steps[0].verdict == "same"
    assert comparison.a.started_at is not None


def test_what_is_asked_wrongly_is_told(
    api: httpx.Client, pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that name nothing, ids that are none, too many and too few."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    a, nobody = str(ran(pool, 1)), str(uuid4())
    path = "/api/workflow/compare"
    for query in ({"a": a, "b": nobody}, {"a": nobody, "b": a}, {"b": nobody, "previousGood": "true"}):
        problem(api.get(path, params=query), 404, "not-found")
    problem(api.get(path, params={"b": a, "previousGood": "true"}), 404, "not-found")
    for query in ({"a": a}, {"b": a}, {"a": "x", "b": a}, {"a": a, "b": a, "previousGood": "true"}):
        problem(api.get(path, params=query), 422, "invalid-request")
    problem(api.get(path, params={"a": a, "b": a, "c": a}), 400, "unknown-parameter")
    assert api.get(path, params={"a": a, "b": a}).json()["firstDivergence"] is None
    assert text("diff", a, nobody)[0] == 3
    assert text("diff", a, "--previous-good")[0] == 3
    assert text("diff", a, "zebra")[0] == 2
    assert text("diff", a)[0] == text("diff", a, a, a)[0] == text("diff", a, a, "--previous-good")[0] == 2
    with Client(str(api.base_url)) as client, pytest.raises(NotFound, match="completed"):
        client.compare(None, a)


def test_a_viewer_may_compare(settings: Settings, pool: Pool) -> None:
    """And nobody without a key."""
    a = ran(pool, 1, 2)
    with running_api(settings, Trust(keys=True)) as url:
        query = {"a": str(a), "b": str(a)}
        assert httpx.get(f"{url}/api/workflow/compare", params=query).status_code == 401
        key = {"Authorization": f"Bearer {make_key(pool, 'viewer')}"}
        assert httpx.get(f"{url}/api/workflow/compare", params=query, headers=key).status_code == 200


def test_the_previous_good_run(api: httpx.Client, pool: Pool) -> None:
    """The newest completed one before it: of the workflow's name in any version, or without a name of the definition."""
    changed = json.loads(json.dumps(FLOW)) | {"config": {"maxRetries": 1}}
    nameless = {"steps": FLOW["steps"]}
    other = {"steps": FLOW["steps"][:1]}
    before = ran(pool, 1, 2)
    good = ran(pool, 1, 2, flow=changed)
    ran(pool, 1, flow=changed, fail=True)
    ran(pool, 1)
    ran(pool, 1, 2, flow=FLOW | {"name": "another"})
    own = ran(pool, 1, 2, flow=nameless)
    ran(pool, 1, flow=other)
    bad = ran(pool, 1, fail=True)
    nameless_bad = ran(pool, 1, flow=nameless, fail=True)
    ran(pool, 1, 2)
    for execution, expected in ((bad, good), (good, before), (nameless_bad, own)):
        answer = api.get("/api/workflow/compare", params={"b": str(execution), "previousGood": "true"}).json()
        assert (answer["a"]["id"], answer["b"]["id"]) == (str(expected), str(execution))
    with Client(str(api.base_url)) as client:
        comparison = client.compare(None, bad)
        assert comparison.a.id == str(good)
        assert comparison.sentence == "First divergence in the definition: /config/maxRetries was removed, 1."
        assert [delta.what for delta in comparison.steps[1].deltas] == ["status", "error"]
        with pytest.raises(NotFound):
            client.compare(None, before)


def test_a_comparison_takes_one_statement_per_execution(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many steps there are."""
    a, b = ran(pool, 1, 2), ran(pool, 1, 3)
    asked = []

    def counted(pool: Pool, query: str, parameters: Any) -> Any:
        asked.append(query)
        return run(pool, query, parameters)

    monkeypatch.setattr("orchestrator.compare_stored.run", counted)
    compare_stored(pool, a, b)
    assert asked == ["compare_executions", "compare_steps"]


def store(pool: Pool, **hashes: str) -> None:
    run(pool, "claim_refresh", {"server": "test", "repeat_unannotated": True, "ttl": 0})
    tools = [
        {"tool": tool, "repeatable": True, "hash": digest, "input_schema": {"title": digest}}
        for tool, digest in hashes.items()
    ]
    run(pool, "store_tools", {"server": "test", "era": "x", "tools": json.dumps(tools)})


def versions(dsn: str) -> list[tuple[str, str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT tool, hash FROM mcp_tool_versions ORDER BY seen_at, tool").fetchall()


def test_tools_have_a_history(pool: Pool, dsn: str) -> None:
    """A row when a tool is first seen and whenever it is another; none when it is gone, or back as it was."""
    store(pool, fetch="1", total="1")
    store(pool, fetch="1", total="2")
    store(pool, fetch="1")
    store(pool, fetch="1", total="2")
    store(pool, fetch="1", total="1")
    assert versions(dsn) == [("fetch", "1"), ("total", "1"), ("total", "2"), ("total", "1")]


def test_the_schema_in_force_is_that_of_the_steps_time(pool: Pool) -> None:
    """Not today's; where nothing was known yet, the first that was seen."""
    early = ran(pool, 1, 2)
    store(pool, fetch="1", total="1")
    one = ran(pool, 1, 2)
    store(pool, fetch="1", total="2")
    two = ran(pool, 1, 2)
    store(pool, fetch="3", total="3")
    assert compare_stored(pool, early, one).first_divergence is None
    found = compare_stored(pool, early, two).first_divergence
    assert found is not None
    assert (found.what, found.step, found.change.path) == ("tool_schema", "total", "/inputSchema/title")
    assert (found.change.before, found.change.after) == ("1", "2")
    assert compare_stored(pool, two, two).first_divergence is None


def test_a_migrated_database_knows_the_tools_it_had(empty_dsn: str) -> None:
    """Since they were last changed."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        older = [one for one in migrations() if one.version < 6]
        for migration in older:
            connection.execute(migration.text.encode())
        connection.execute("INSERT INTO mcp_servers (name, repeat_unannotated) VALUES ('test', true)")
        connection.execute(
            "INSERT INTO mcp_tools (server, tool, repeatable, hash, changed_at, input_schema)"
            " VALUES ('test', 'fetch', true, 'h', '2026-01-01', '{}')"
        )
        (six,) = [one for one in migrations() if one.version == 6]
        connection.execute(six.text.encode())
        rows = connection.execute("SELECT tool, hash, seen_at::date::text FROM mcp_tool_versions").fetchall()
    assert rows == [("fetch", "h", "2026-01-01")]


def test_a_refresh_of_a_real_server_keeps_its_schemas(pool: Pool, settings: Settings) -> None:
    """What the builtin tools say of themselves, and an execution that called them."""
    with McpClient({}) as client:
        refresh(pool, client, "builtin")
        flow = {"steps": [{"name": "say", "tool": "builtin.echo", "params": {"n": 1}}]}
        a = WorkflowEngine(client, pool=pool, settings=settings).execute(flow, {}).execution_id
    (row,) = run(pool, "compare_steps", {"ids": [a]})
    assert row["tool_schemas"]["inputSchema"]["type"] == "object"


def test_documented_output_is_what_is_printed(pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/compare.md, but for ids, times and durations."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    renew(pool, WORKER)
    a = ran(pool, [{"id": 1, "price": 5}, {"id": 2, "price": 7}], {"sum": 12})
    b = ran(pool, [{"id": 1, "price": "5"}, {"id": 2, "price": 7}, {"id": 3, "price": 1}], fail=True)
    code, out, _ = text("diff", str(a), str(b))
    document = (Path(__file__).parents[2] / "docs" / "compare.md").read_text()
    shown = document.split("```text\n")[1].split("```")[0]
    assert code == 0
    assert [_timeless(line) for line in out.splitlines()] == [_timeless(line) for line in shown.splitlines()]


def _timeless(line: str) -> str:
    for changing in (r"[0-9a-f]{8}-[0-9a-f-]{27}", r"\d{4}-\d\d-\d\dT[\d:.]+Z", r"[+-]?\d+ ms"):
        line = re.sub(changing, "#", line)
    return " ".join(line.split())


def test_an_unknown_step_is_no_reason_to_fail(pool: Pool) -> None:
    """Executions as the original's operations record them: no definition, no tool, steps of one name."""
    ids = []
    for output in (1, 2):
        execution = run(
            pool,
            "create_execution",
            {
                "id": uuid4(),
                "workflow_id": None,
                "input": None,
                "context": '["no object"]',
                "triggered_by": None,
                "github_run_id": None,
            },
        )[0]["id"]
        for index in range(2):
            step = {"id": uuid4(), "execution_id": execution, "step_name": "poll", "step_index": index, "input": "[1]"}
            run(pool, "create_step", step)
            done = {"id": step["id"], "status": "completed", "output": json.dumps(index and output)}
            run(pool, "update_step", done | {"error": None, "duration_ms": 1})
        ids.append(execution)
    found = compare_stored(pool, *ids).first_divergence
    assert found is not None
    assert (found.what, found.step, found.iteration) == ("output", "poll", 1)
