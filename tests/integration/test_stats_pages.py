"""Queues, analytics and costs, as pages, over HTTP and from the command line: the same figures, from real rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import httpx
import pytest

from control_center.cli import invoke
from control_center.client import Client
from control_center.keys import Trust
from orchestrator.outcome import Failed
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.api_server import running_api
from tests.drive import drive, submit
from tests.integration.test_api import make_key, problem
from tests.integration.test_roll_up import completed, failed, moved, query, roll_all
from tests.outage import own_servers
from tests.workflows import FunctionTools, sequence

BAD = "<script>alert(1)</script>"
SAFE = "&lt;script&gt;alert(1)&lt;/script&gt;"
STATS = "/api/workflow/stats"


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx.Client]:
    with running_api(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def worker(pool: Pool, host: str, silent: float = 0) -> UUID:
    worker_id = uuid4()
    run(pool, "renew_lease", {"worker_id": worker_id, "role": "worker", "hostname": host, "pid": 7, "threads": 4})
    change(pool, "UPDATE workers SET heartbeat_at = now() - %s * interval '1 second' WHERE id = %s", silent, worker_id)
    return worker_id


def change(pool: Pool, text: str, *parameters: object) -> None:
    with pool.connection() as connection:
        connection.execute(text.encode(), parameters)


def shown(answer: httpx.Response) -> str:
    """A page's text, as a reader sees it."""
    assert answer.status_code == 200, answer.text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", answer.text))


def test_what_waits_and_who_works(api: httpx.Client, pool: Pool) -> None:
    """Of four executions one step is in the hands of a worker, one is delayed, two are ready; a second worker is silent."""
    busy = worker(pool, BAD)
    worker(pool, "far", silent=45)
    for _ in range(4):
        submit(pool, sequence(3))
    change(pool, "UPDATE workflow_steps SET next_run_at = now() - interval '50 seconds' WHERE step_index = 0")
    first, later, *_ = query(pool, "SELECT id FROM workflow_steps WHERE step_index = 0 ORDER BY id")
    run(pool, "claim_steps", {"step_ids": [first["id"]], "attempts": [0], "worker_id": busy, "timeout_ms": 1000})
    hour = (
        "UPDATE workflow_steps SET next_run_at = now() + interval '1 hour', dispatch_after = now() + interval '1 hour' "
    )
    change(pool, hour + "WHERE id = %s", later["id"])

    told = api.get("/api/workflow/queues").json()
    (queue,) = told["queues"]
    assert queue.pop("oldestSeconds") == pytest.approx(50, abs=20)
    assert queue.pop("nextSeconds") == pytest.approx(3600, abs=20)
    assert queue.pop("name")
    assert queue == {
        "ready": 2,
        "delayed": 1,
        "more": False,
        "running": 1,
        "slots": 4,
        "inPerMinute": 12,
        "outPerMinute": 0,
        "drainMinutes": None,
        "workersAlive": 1,
        "workersSilent": 1,
    }
    assert told["stuck"] == []
    assert told["redis"]["away"] is None
    assert told["schemaVersion"]["database"] == told["schemaVersion"]["code"]
    workers = api.get("/api/workflow/workers").json()
    assert [(one["hostname"], one["alive"], one["running"]) for one in workers["workers"]] == [
        (BAD, True, 1),
        ("far", False, 0),
    ]

    page = api.get("/ui/queues")
    text = shown(page)
    for part in ("1 / 4", "▲ never", "⚠ 1 silent", "✓ alive", "⚠ silent", "✓ none without lease", "no dead letters"):
        assert part in text, part
    assert BAD not in page.text
    assert SAFE in page.text


def test_a_queue_without_workers_says_how_to_start_one(api: httpx.Client, pool: Pool) -> None:
    submit(pool, sequence(1))
    assert "No worker is alive, and 1 step waits. afu9 worker starts one" in shown(api.get("/ui/queues"))


def test_what_stands_in_the_way_is_told(api: httpx.Client, pool: Pool) -> None:
    """An execution that nothing will move, and a schema that is not the code's."""
    execution_id = submit(pool, sequence(2))
    change(pool, "UPDATE workflow_steps SET dispatch_after = NULL WHERE execution_id = %s", execution_id)
    change(pool, "INSERT INTO afu9_migrations (version, name, checksum) VALUES (9999, 'later', '')")
    page = api.get("/ui/queues")
    text = shown(page)
    assert "✕ 1 execution that no lease" in text
    assert f"/ui/executions/{execution_id}" in page.text
    assert "✕ 9999 in the database" in text
    assert "update afu9" in text
    assert api.get("/api/workflow/queues").json()["stuck"] == [str(execution_id)]


def test_counts_stop_at_a_limit_and_say_so(api: httpx.Client, pool: Pool) -> None:
    """Of 12,000 steps that wait and 12,000 that are delayed, so many rows are read at most."""
    execution_id = submit(pool, sequence(1))
    change(
        pool,
        """
        INSERT INTO workflow_steps (execution_id, step_name, step_index, status, next_run_at, dispatch_after)
        SELECT %s, 's', n, 'pending', now() + CASE WHEN n %% 2 = 0 THEN 1 ELSE -1 END * interval '1 hour',
               now() + CASE WHEN n %% 2 = 0 THEN interval '1 hour' ELSE interval '10 seconds' END
          FROM generate_series(1, 24000) n""",
        execution_id,
    )
    (queue,) = api.get("/api/workflow/queues").json()["queues"]
    assert (queue["ready"], queue["delayed"], queue["more"]) == (5000, 5000, True)
    assert queue["oldestSeconds"] == pytest.approx(3600, abs=60)
    assert "5,000+" in shown(api.get("/ui/queues"))


def test_without_redis_the_page_comes_and_says_so(settings: Settings, tmp_path: Path) -> None:
    """Whether it refuses or says nothing."""
    with own_servers(tmp_path) as own:
        places = {"database_url": own.endpoints.database_url, "redis_url": own.endpoints.redis_url}
        for how in ("down", "stalled"):
            with running_api(settings.model_copy(update=places)) as url, getattr(own, how)(own.valkey):
                text = shown(httpx.get(f"{url}/ui/queues", timeout=3))
                assert "✕ away" in text
                assert "workers take them from PostgreSQL" in text
                assert httpx.get(f"{url}/api/workflow/queues", timeout=3).json()["redis"]["away"]


def test_calls_are_held_and_released_with_a_form(api: httpx.Client, pool: Pool) -> None:
    """Each act is in the audit log, once; what somebody else has released is no fault; what is no hold is refused."""
    given = {"kind": "tool", "name": BAD, "reason": "the service is away"}
    for _ in range(2):
        answer = api.post("/ui/queues/hold", data=given)
        assert (answer.status_code, answer.headers["location"]) == (303, "/ui/queues#holds")
    (held,) = run(pool, "list_holds")
    assert (held["kind"], held["name"], held["reason"]) == ("tool", BAD, "the service is away")
    page = api.get("/ui/queues")
    assert SAFE in page.text
    assert BAD not in page.text
    for _ in range(2):
        assert api.post("/ui/queues/release", data=given).status_code == 303
    assert run(pool, "list_holds") == []
    audited = query(pool, "SELECT action, target, detail FROM audit_log ORDER BY id")
    assert [(row["action"], row["target"]) for row in audited] == [("tool.hold", BAD), ("tool.release", BAD)]
    assert audited[0]["detail"] == {"reason": "the service is away"}
    for bad in ({"kind": "fleet", "name": "x"}, {"kind": "tool", "name": " "}, {"kind": "tool", "name": "x" * 256}):
        assert api.post("/ui/queues/hold", data=bad).status_code == 422


def test_who_may_not_hold_reads_why(settings: Settings, pool: Pool) -> None:
    run(pool, "hold_calls", {"kind": "tool", "name": "a.b", "actor": "ada", "reason": None})
    with (
        running_api(settings, Trust(keys=True)) as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {make_key(pool, 'viewer')}"}) as viewer,
    ):
        page = viewer.get("/ui/queues")
        assert "Holding and releasing need the role operator; a viewer has viewer." in shown(page)
        buttons = re.findall(r"<button([^>]*)>(?:Hold|Release)<", page.text)
        assert len(buttons) == 2
        assert all("disabled" in one for one in buttons)
        for act in ("hold", "release"):
            assert viewer.post(f"/ui/queues/{act}", data={"kind": "tool", "name": "a.b"}).status_code == 403
        assert viewer.get(STATS).status_code == 200
        for path in (STATS, "/api/workflow/queues", "/api/workflow/workers"):
            problem(httpx.get(url + path), 401, "unauthenticated")
    assert len(run(pool, "list_holds")) == 1


def test_before_anything_is_counted_the_page_says_when(api: httpx.Client, pool: Pool) -> None:
    text = shown(api.get("/ui/analytics"))
    assert "Nothing is counted yet." in text
    assert "the first figures come at" in text
    told = api.get(STATS).json()
    assert (told["until"], told["stats"], told["errors"]) == (None, [], [])
    assert told["nextAt"] > told["since"]


def strange(**_: Any) -> Any:
    return Failed("tool_error", f"{BAD} at {uuid4()}")


def test_what_ended_is_told_by_all_that_it_can_be_asked_by(api: httpx.Client, pool: Pool) -> None:
    """Two executions completed, one failed after three attempts, one with an error that would be a script."""
    now = datetime.now(UTC)
    for hours in (2, 3):
        completed(pool, now - timedelta(hours=hours))
    failed(pool, now - timedelta(hours=4), retry={"maxAttempts": 3, "initialDelayMs": 100})
    last = submit(pool, sequence(1))
    drive(pool, last, FunctionTools(echo=strange))
    moved(pool, last, now - timedelta(hours=1))
    roll_all(pool)

    def ask(by: str, **more: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = api.get(STATS, params={"by": by, **more}).json()["stats"]
        return found

    (workflow,) = ask("workflow")
    assert [workflow[name] for name in ("name", "endings", "completed", "failed")] == ["sequence", 4, 2, 2]
    assert workflow["successRate"] == 0.5
    assert workflow["p50Ms"] <= workflow["p95Ms"]
    assert [(one["name"], one["workflow"], one["endings"], one["retried"]) for one in ask("step")] == [
        ("step_0", "sequence", 4, 2),
        ("step_1", "sequence", 2, 0),
    ]
    assert [(one["name"], one["completed"], one["failed"]) for one in ask("tool")] == [("test.echo", 4, 2)]
    assert [(one["name"], one["completed"], one["failed"]) for one in ask("server")] == [("test", 4, 2)]
    assert [one["endings"] for one in ask("time") if one["endings"]] == [1, 1, 1, 1]
    assert ask("workflow", workflow="another") == []
    assert ask("workflow", window="7d")[0]["endings"] == 4
    problem(api.get(STATS, params={"by": "weather"}), 422, "invalid-request")
    problem(api.get(STATS, params={"window": "5y"}), 422, "invalid-request")

    page = api.get("/ui/analytics?window=24h")
    text = shown(page)
    assert "50.0 %" in text
    assert "HTTP 503 after" in text
    assert BAD not in page.text
    links = [link.replace("&amp;", "&") for link in re.findall(r'href="([^"]*)"[^>]*>all like it', page.text)]
    assert [parse_qs(urlsplit(link).query)["q"] for link in links] == [["HTTP 503 after"], [f"{BAD} at"]] or len(
        links
    ) == 2
    by_script = next(link for link in links if "script" in link)
    assert re.findall(r'id="e-([0-9a-f-]+)"', api.get(by_script).text) == [str(last)]
    assert f'href="/ui/executions/{last}">example' in page.text
    assert "No execution of another ended in this time" in shown(api.get("/ui/analytics?workflow=another"))
    assert api.get("/ui/analytics?window=5y").status_code == 422
    change(pool, "UPDATE rollup_progress SET rolled_until = rolled_until - interval '40 minutes'")
    assert "does an orchestrator run?" in shown(api.get("/ui/analytics"))


def test_what_calls_cost_is_shown_to_the_last_digit(api: httpx.Client, pool: Pool) -> None:
    """By what is asked, with those whose price nobody knows, the dearest executions, and budgets that were reached."""
    now = datetime.now(UTC)
    dear = completed(pool, now - timedelta(hours=2))
    change(pool, "UPDATE workflow_executions SET cost_nanos = 9007199254740993, title = %s WHERE id = %s", BAD, dear)

    def spent(**_: Any) -> Any:
        return Failed("cost_limit", "it would cost 0.02 USD, and 0.01 of 0.02 USD are spent")

    over = submit(pool, sequence(1))
    drive(pool, over, FunctionTools(echo=spent))
    moved(pool, over, now - timedelta(hours=1))
    roll_all(pool)
    change(
        pool,
        "INSERT INTO cost_days (day, workflow, server, tool, slot, calls, unpriced_calls, cost_nanos)"
        " VALUES (%s, 'flow', 'a', 'b', 0, 3, 1, 9007199254740993), (%s, 'flow', 'a', 'c', 0, 1, 0, 7)",
        now.date(),
        now.date(),
    )
    page = api.get("/ui/costs?window=7d&by=tool")
    text = shown(page)
    assert "$9007199.254741" in text
    assert "$9007199.254740993" in text
    assert "$0.000000007" in text
    assert re.search(r"unpriced calls\s+1\b", text)
    assert BAD not in page.text
    assert f'href="/ui/executions/{dear}"' in page.text
    assert f'href="/ui/executions/{over}"' in page.text
    assert "nothing was counted" not in shown(api.get("/ui/costs?by=day"))
    for bad in ("window=7", "window=0d", "by=weather"):
        assert api.get(f"/ui/costs?{bad}").status_code == 422


def test_commands_say_the_same_of_the_database_and_of_an_api(
    api: httpx.Client,
    pool: Pool,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    completed(pool, datetime.now(UTC) - timedelta(hours=2))
    failed(pool, datetime.now(UTC) - timedelta(hours=3))
    roll_all(pool)
    worker(pool, "here")
    url = str(api.base_url).rstrip("/")
    monkeypatch.setenv("DATABASE_URL", settings.database_dsn)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    unsteady = re.compile(r'"(?:nextAt|heartbeatAt|milliseconds|postgresMs|silentSeconds)": [^,}]*')
    for command in (
        ["stats"],
        ["stats", "--by", "step", "--json"],
        ["queues"],
        ["queues", "--json"],
        ["workers", "--json"],
    ):
        said = []
        for way in ("", url):
            monkeypatch.setenv("AFU9_URL", way)
            assert invoke(command) == 0
            said.append(unsteady.sub("", capsys.readouterr().out))
        assert said[0] == said[1]
        assert said[0]
    monkeypatch.setenv("AFU9_URL", "")
    assert invoke(["stats"]) == 0
    assert capsys.readouterr().out.split("\t")[:4] == ["sequence", "2", "1", "0"]
    assert invoke(["workers"]) == 0
    assert capsys.readouterr().out.split("\t")[1:7] == ["worker", "here", "7", "0", "4", "alive"]
    assert invoke(["stats", "--window", "5y"]) == 2
    with Client(url) as client:
        assert [one.hostname for one in client.workers().workers] == ["here"]
        assert json.dumps(client.stats("7d", "tool").stats[0].name) == '"test.echo"'
