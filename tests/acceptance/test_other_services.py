"""Other services start workflows: from SQL in their own transaction, and from any Dramatiq producer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from orchestrator.submit import Submitter
from orchestrator.validate import validate
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.fleet import Fleet, bare_server, environment, mcp_config, wait_until

ECHO = {
    "name": "greet",
    "steps": [{"name": "echo", "tool": "bare.echo", "params": {"n": "${input.n}"}, "assign": "said"}],
}
PRODUCER = """
import sys
import dramatiq
from dramatiq.brokers.redis import RedisBroker

broker = RedisBroker(url=sys.argv[1], namespace=sys.argv[2])
for n in range(int(sys.argv[3])):
    key = {"idempotency_key": f"order-{n % 3}"}
    broker.enqueue(dramatiq.Message("afu9.start", "start_workflow", ("greet", {"n": n % 3}), key, {}))
"""


@pytest.fixture
def fleet(settings: Settings, pool: Pool, tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "logs").mkdir()
    Submitter(pool, None).register(validate(ECHO))
    with bare_server() as url:
        config = mcp_config(tmp_path, bare={"url": url, "protocol": "jsonrpc"})
        started = Fleet(environment(settings, config), tmp_path / "logs")
        try:
            for role in ("orchestrator", "worker"):
                started.start(role)
            wait_until(lambda: run(pool, "server_facts")[0]["workers_alive"] == 1, 20, "the worker's start")
            yield started
        finally:
            started.end()
            print(started.log())


def outputs(pool: Pool) -> list[object]:
    with pool.connection() as connection:
        rows = connection.execute(
            "SELECT output FROM workflow_executions WHERE status = 'completed' ORDER BY id"
        ).fetchall()
    return [row["output"]["said"]["n"] for row in rows]


def test_sql_starts_a_workflow_when_it_commits(fleet: Fleet, settings: Settings, pool: Pool) -> None:
    """And leaves nothing when it does not; a key makes one of many."""
    call = "SELECT afu9_start_workflow('greet', %s::jsonb, idempotency_key => %s)"
    with psycopg.connect(settings.database_dsn) as connection:
        connection.execute(call, (json.dumps({"n": 1}), None))
        connection.rollback()
        first = connection.execute(call, (json.dumps({"n": 2}), "order-2")).fetchone()
        assert connection.execute(call, (json.dumps({"n": 2}), "order-2")).fetchone() == first
        assert run(pool, "page_executions", NO_FILTER) == []
        connection.commit()
        wait_until(lambda: outputs(pool) == [2], 10, "the execution")
        (row,) = run(pool, "page_executions", NO_FILTER)
        assert (row["triggered_by"], row["workflow_name"]) == ("postgres", "greet")


NO_FILTER = dict.fromkeys(
    ["ids", "status", "statuses", "workflow_ids", "triggered_by", "labels", "since", "until", "text", "at", "id"]
) | {"limit": 10}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("afu9_start_workflow('nobody')", "no workflow is named 'nobody'"),
        ("afu9_start_workflow('greet', '[]')", "must be JSON objects"),
        ("afu9_start_workflow('greet', labels => '3')", "must be JSON objects"),
        ("afu9_start_workflow(NULL)", "no workflow is named"),
    ],
)
def test_sql_that_starts_nothing_says_why(settings: Settings, pool: Pool, call: str, words: str) -> None:
    """The caller's transaction fails with a sentence."""
    Submitter(pool, None).register(validate(ECHO))
    with psycopg.connect(settings.database_dsn) as connection, pytest.raises(psycopg.Error, match=words):
        connection.execute(f"SELECT {call}")


def test_sql_starts_no_disabled_workflow(settings: Settings, pool: Pool) -> None:
    """Disabled by an operator."""
    Submitter(pool, None).register(validate(ECHO))
    run(pool, "enable_workflow", {"name": "greet", "enabled": False})
    with (
        psycopg.connect(settings.database_dsn) as connection,
        pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="disabled"),
    ):
        connection.execute("SELECT afu9_start_workflow('greet')")


def test_any_producer_starts_a_workflow_by_message(fleet: Fleet, settings: Settings, pool: Pool) -> None:
    """With Dramatiq's own broker and nothing of ours: nine messages, three keys, three executions."""
    subprocess.run(
        [sys.executable, "-c", PRODUCER, settings.redis_url.replace("unix://", "unix://"), settings.namespace, "9"],
        check=True,
        cwd="/",
        env={"PATH": fleet.environment["PATH"]},
    )
    wait_until(lambda: sorted(outputs(pool)) == [0, 1, 2], 15, "three executions")  # type: ignore[type-var]
    assert len(run(pool, "page_executions", NO_FILTER)) == 3


def test_a_message_that_can_start_nothing_goes_to_the_dead_letters(
    fleet: Fleet, settings: Settings, pool: Pool, valkey: redis.Redis
) -> None:
    """With a word in the log; one that is delivered twice starts one execution."""
    from dramatiq import Message

    from orchestrator.broker import StepBroker

    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    bad: list[tuple[object, ...]] = [
        (),
        ("nobody",),
        ("greet", []),
        ("greet", {}, 7),
        ("greet", {}, ""),
        (None, {}),
        ("greet", {"n": "\0"}),
    ]
    for number, args in enumerate(bad):
        broker.enqueue(Message("afu9.start", "start_workflow", args, {}, {}, message_id=f"bad-{number}"))
    good: Message[None] = Message("afu9.start", "start_workflow", ("greet", {"n": 5}), {}, {}, message_id="good")
    for redis_id in ("a", "b"):
        queue = f"{settings.namespace}:afu9.start"
        valkey.hset(f"{queue}.msgs", redis_id, good.copy(options={"redis_message_id": redis_id}).encode())
        valkey.rpush(queue, redis_id)
    wait_until(lambda: valkey.zcard(f"{settings.namespace}:afu9.start.XQ") == len(bad), 15, "the burial")
    wait_until(lambda: outputs(pool) == [5], 15, "the good one")
    assert len(run(pool, "page_executions", NO_FILTER)) == 1
    broker.close()
