"""The client against a running API: every operation, and everything that can go wrong on the way."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from control_center.client import (
    AsyncClient,
    Client,
    Conflict,
    ConnectionFailed,
    ExecutionFailed,
    ExecutionTimeout,
    Forbidden,
    InvalidRequest,
    NotFound,
    RateLimited,
    Request,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
)
from control_center.keys import Trust
from persistence.executions import update_execution_status
from persistence.pool import Pool, run
from persistence.settings import Settings
from persistence.transitions import ReadyStep
from tests.api_server import running_api
from tests.integration.test_api import ECHO, make_key, run_through
from tests.integration.test_transitions import WORKER, catalogue, charge, finish, renew, take
from tests.unsteady import Link, http, scripted, serving


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    with running_api(settings) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as opened:
        yield opened


def started(client: Client, **more: Any) -> str:
    return client.submit(definition=ECHO, input={"n": 1}, **more).execution_id


def first_step(pool: Pool, execution_id: str) -> ReadyStep:
    renew(pool, WORKER)
    row = run(pool, "get_execution_steps", {"execution_id": execution_id})[0]
    return ReadyStep(row["id"], row["attempt"])


def executions(pool: Pool) -> int:
    with pool.connection() as connection:
        found: int = connection.execute("SELECT count(*) AS n FROM workflow_executions").fetchone()["n"]  # type: ignore[index]
    return found


def test_an_execution_from_its_start_to_its_result(client: Client, pool: Pool) -> None:
    """Values as they were given, times with their zone, steps by index."""
    labels = {"team": "é", "env": "x"}
    big = {"n": 2**53 + 1, "text": "ü\u2028", "deep": [{"a": None, "b": True, "c": 1.5}]}
    context = {"repo": {"owner": "acme"}}
    accepted = client.submit(
        definition=ECHO,
        input=big,
        context=context,
        title="a title",
        labels=labels,
        triggered_by="ann",
        github_run_id="7",
    )
    assert (accepted.workflow_id, accepted.replayed) == (None, False)
    run_through(pool, accepted.execution_id)
    detail = client.get(UUID(accepted.execution_id))
    execution = detail.execution
    assert (execution.id, execution.status, execution.ended) == (accepted.execution_id, "completed", True)
    assert execution.input == big
    assert execution.context["repo"] == context["repo"]
    assert (execution.title, execution.labels, execution.triggered_by) == ("a title", labels, "ann")
    assert (execution.workflow, execution.github_run_id) == ("echo_flow", "7")
    assert execution.completed_at is not None
    assert abs(datetime.now(UTC) - execution.completed_at) < timedelta(minutes=1)
    assert execution.completed_at.utcoffset() == timedelta(0)
    assert [(step.name, step.index, step.status, step.attempt) for step in detail.steps] == [
        ("first", 0, "completed", 1),
        ("second", 1, "completed", 1),
    ]
    assert detail.steps[0].claimed_at is not None
    assert (detail.metadata.total_steps, detail.metadata.completed_steps) == (2, 2)
    assert client.result(accepted.execution_id) == {"one": {"index": 0}, "two": {"index": 1}}
    assert client.get(accepted.execution_id, hide=["input", "context"]).execution.input is None
    assert client.steps(accepted.execution_id) == detail.steps


def test_the_same_key_is_the_same_execution(client: Client, pool: Pool) -> None:
    """With another request it is refused."""
    first = client.submit(definition=ECHO, input={"n": 1}, idempotency_key="k")
    again = client.submit(definition=ECHO, input={"n": 1}, idempotency_key="k")
    assert (again.execution_id, first.replayed, again.replayed) == (first.execution_id, False, True)
    with pytest.raises(InvalidRequest) as refused:
        client.submit(definition=ECHO, input={"n": 2}, idempotency_key="k")
    assert (refused.value.type, refused.value.status) == ("idempotency-mismatch", 422)
    assert executions(pool) == 1


def test_many_are_started_once_each_however_often_they_are_submitted(client: Client, pool: Pool) -> None:
    """More than one batch, in order."""
    requests = [Request({"n": n}, labels={"n": str(n)}) for n in range(1001)]
    first = client.submit_many(requests, definition=ECHO)
    assert client.submit_many(iter(requests), definition=ECHO) == first
    assert executions(pool) == len({one.execution_id for one in first}) == 1001
    assert client.get(first[1000].execution_id).execution.input == {"n": 1000}
    assert client.submit_many([], definition=ECHO) == []


def test_a_dry_run_starts_nothing(client: Client, pool: Pool) -> None:
    """It names the tools."""
    dry = client.dry_run(definition=ECHO, input={"n": 1})
    assert [(step.step, step.tool, step.known) for step in dry.steps] == [
        ("first", "test.echo", False),
        ("second", "test.echo", False),
    ]
    assert executions(pool) == 0


def test_listings_go_on_page_after_page(client: Client) -> None:
    """Newest first, filtered, and no further than asked."""
    ids = [started(client, labels={"team": "a"}, triggered_by=f"user {n % 2}") for n in range(7)][::-1]
    started(client)
    assert [row.id for row in client.iter_executions(labels={"team": "a"}, page_size=2)] == ids
    assert [row.id for row in client.iter_executions(labels={"team": "a"}, page_size=2, limit=5)] == ids[:5]
    assert list(client.iter_executions(limit=0)) == []
    filters: dict[str, Any] = {"status": ["running", "failed"], "triggered_by": "user 0", "text": "user 0"}
    past = datetime.now(UTC) - timedelta(hours=1)
    assert [row.id for row in client.iter_executions(**filters, since=past)] == ids[::2]
    assert list(client.iter_executions(until=past)) == []
    assert list(client.iter_executions(workflow="nobody")) == []
    with pytest.raises(InvalidRequest) as refused:
        list(client.iter_executions(status="done"))
    assert refused.value.errors[0]["pointer"] == "/query/status"


def test_waiting_ends_with_the_execution(client: Client, pool: Pool) -> None:
    """Or in time; a wait that timed out can be made again."""
    execution_id = started(client)
    for seconds in (0, 0.2):
        with pytest.raises(ExecutionTimeout) as late:
            client.wait(execution_id, timeout=seconds)
        assert (late.value.execution_id, late.value.status) == (execution_id, "running")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.wait, execution_id, 30)
        run_through(pool, execution_id)
        ended = waiting.result(30)
    assert ended.execution.output == {"one": {"index": 0}, "two": {"index": 1}}


def test_a_result_names_the_step_that_failed(client: Client, pool: Pool) -> None:
    """With its error; its attempts and events tell more; a cancelled execution has no result either."""
    execution_id = started(client)
    charge(pool, take(pool, first_step(pool, execution_id)), retryable=False)
    with pytest.raises(ExecutionFailed, match="at step first: it broke") as failed:
        client.result(execution_id, timeout=10)
    assert (failed.value.status, failed.value.step, failed.value.kind) == ("failed", "first", "tool_error")
    assert failed.value.error == "it broke"
    step = client.step(execution_id, 0)
    assert (step.step.status, [one.message for one in step.attempts]) == ("failed", ["it broke"])
    (event,) = client.events(execution_id)
    assert (event.step_id, event.attempt, event.kind) == (step.step.id, 1, "tool_error")
    assert client.events(execution_id, after=event.id) == []
    stopped = started(client)
    update_execution_status(pool, UUID(stopped), "cancelled", error="enough")
    with pytest.raises(ExecutionFailed, match="cancelled: enough") as failed:
        client.result(stopped)
    assert failed.value.step is None


def test_watching_yields_each_change_and_ends_with_the_execution(client: Client, pool: Pool) -> None:
    """What did not change is asked for and not sent."""
    execution_id = started(client)
    seen = client.watch(execution_id)
    looks = client.poll(execution_id, hide=["output"])
    assert next(seen).steps[0].status == "pending"
    assert next(looks) is not None
    assert next(looks) is None
    claim = take(pool, first_step(pool, execution_id))
    assert next(seen).steps[0].status == "running"
    finish(pool, claim)
    look = next(one for one in looks if one is not None and one.steps[0].status == "completed")
    assert look.steps[0].output is None
    (row,) = [one for one in run(pool, "get_execution_steps", {"execution_id": execution_id}) if one["step_index"] == 1]
    finish(pool, take(pool, ReadyStep(row["id"], row["attempt"])))
    assert [one.execution.status for one in seen] == ["completed"]
    assert [one.execution.status for one in looks if one] == ["completed"]


def test_an_id_is_found_by_its_beginning(client: Client) -> None:
    """As the commands do it."""
    execution_id = started(client)
    assert client.find(execution_id[:23]) == execution_id
    with pytest.raises(NotFound):
        client.find("ffffffff")
    with pytest.raises(InvalidRequest):
        client.find("zebra")


def test_registered_workflows(client: Client) -> None:
    """Versions, starts by name, switched off and on."""
    first = client.register_workflow(ECHO)
    assert (first.name, first.version, first.created) == ("echo_flow", 1, True)
    assert client.register_workflow(ECHO).created is False
    changed = ECHO | {"steps": ECHO["steps"][:1], "description": "shorter"}
    assert client.register_workflow(changed).version == 2
    client.register_workflow(ECHO | {"name": "another"})
    assert [(one.name, one.version) for one in client.workflows()] == [("another", 1), ("echo_flow", 2)]
    assert client.get_workflow("echo_flow").definition == changed
    assert client.get_workflow("echo_flow", version=1).definition == ECHO
    triggered = client.trigger("echo_flow", input={"n": 1}, idempotency_key="t")
    assert client.trigger("echo_flow", input={"n": 1}, idempotency_key="t").execution_id == triggered.execution_id
    submitted = client.submit("echo_flow", input={"n": 1})
    assert submitted.workflow_id == triggered.workflow_id
    (many,) = client.submit_many([Request({"n": 1})], workflow="echo_flow")
    assert many.workflow_id == triggered.workflow_id
    assert client.disable("echo_flow").enabled is False
    with pytest.raises(Conflict) as refused:
        client.submit("echo_flow")
    assert refused.value.type == "workflow-disabled"
    assert client.enable("echo_flow").enabled is True
    for call in (client.get_workflow, client.enable, client.trigger, client.submit):
        with pytest.raises(NotFound, match=r"no one\?#"):
            call("no one?#")


def test_servers_tools_and_health(client: Client, pool: Pool) -> None:
    """From the catalogue's rows."""
    assert client.health().status == "ok"
    assert (client.ready().database, client.ready().workers) == ("ok", 0)
    catalogue(pool, repeatable=True)
    assert [(one.server, one.tool, one.repeatable) for one in client.tools()] == [("test", "echo", True)]
    assert client.tools("other") == []
    health = client.mcp_health()
    assert [(server.name, server.healthy) for server in health.servers] == [("test", True)]


def test_what_is_asked_wrongly_is_told(client: Client, pool: Pool) -> None:
    """By type, with the places of the faults."""
    with pytest.raises(InvalidRequest) as refused:
        client.submit(definition={"steps": [{"name": "A B", "tool": "x", "params": {}}]})
    assert refused.value.type == "invalid-definition"
    assert {"/steps/0/name", "/steps/0/tool"} <= {fault["pointer"] for fault in refused.value.errors}
    with pytest.raises(InvalidRequest) as refused:
        client.submit(definition=ECHO, input={"n": "x" * 2_000_000})
    assert refused.value.type == "body-too-large"
    for unknown in (uuid4(), str(uuid4())):
        for call in (client.get, client.events, client.wait, client.result, lambda one: next(client.watch(one))):
            with pytest.raises(NotFound):
                call(unknown)
    with pytest.raises(NotFound):
        client.get("../../../healthz")
    with pytest.raises(NotFound):
        client.step(started(client), 99)


def test_keys(settings: Settings, pool: Pool) -> None:
    """None, a wrong one, one whose role is too small, a good one."""
    with running_api(settings, Trust(keys=True)) as url:
        for key in ("", "afu9_abcdefghijkl_wrong"):
            with Client(url, key) as client, pytest.raises(Unauthenticated):
                client.submit(definition=ECHO)
        with Client(url, make_key(pool, "viewer")) as client:
            assert list(client.iter_executions()) == []
            with pytest.raises(Forbidden, match="submitter"):
                client.submit(definition=ECHO, input={"n": 1})
        with Client(url, make_key(pool, "submitter")) as client:
            assert client.get(started(client)).execution.triggered_by == "a submitter"
    assert executions(pool) == 1


def test_a_lost_answer_makes_one_execution(url: str, pool: Pool) -> None:
    """The server has started it, dies before it says so, and comes back: the repetition finds the same one."""
    with serving(Link(url, b"POST ")) as link, Client(link.url) as client, ThreadPoolExecutor(1) as threads:
        submitting = threads.submit(client.submit, definition=ECHO, input={"n": 1})
        assert link.down.wait(10)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", link.port))
        link.come_back()
        accepted = submitting.result(30)
        assert accepted.execution_id in link.lost[0].decode()
        assert len(link.requests) == 2
    assert executions(pool) == 1


def test_a_follower_outlives_the_server(url: str, pool: Pool) -> None:
    """Longer than anybody has patience for a first answer."""
    with Client(url) as direct:
        execution_id = started(direct)
    with serving(Link(url, b"never")) as link, Client(link.url, patience=0) as client:
        looks = client.poll(execution_id)
        assert next(looks) is not None
        link.losing = b"GET "
        with ThreadPoolExecutor(1) as threads:
            following = threads.submit(list, looks)
            assert link.down.wait(10)
            run_through(pool, execution_id)
            link.come_back()
            assert [one.execution.status for one in following.result(30) if one][-1] == "completed"


def test_what_may_not_be_repeated_is_not(url: str) -> None:
    """A registration whose answer is lost: the caller is told that it may have happened."""
    with serving(Link(url, b"POST ")) as link, Client(link.url) as client:
        with pytest.raises(ConnectionFailed) as failed:
            client.register_workflow(ECHO)
        assert failed.value.sent
        assert len(link.requests) == 1
        link.come_back()
        assert [one.name for one in client.workflows()] == ["echo_flow"]


def test_too_many_requests_wait_as_long_as_they_are_told(settings: Settings, pool: Pool) -> None:
    """A bucket of ten, refilled by one a second; without patience it is an error that says how long."""
    limited = settings.model_copy(update={"api_requests_per_second": 1.0})
    with running_api(limited) as url, Client(url) as client, Client(url, patience=0) as hasty:
        ids = {started(client) for _ in range(12)}
        assert executions(pool) == len(ids) == 12
        with pytest.raises(RateLimited) as refused:
            [started(hasty) for _ in range(3)]
        assert (refused.value.type, refused.value.retry_after) == ("rate-limited", 1)


ACCEPTED = http(
    "202 Accepted", "application/json", b'{"executionId": "1", "workflowId": null, "url": "/", "more": {"keys": 1}}'
)
AWAY = b'{"type": "https://afu9.dev/problems/database-away", "status": 503, "detail": "soon"}'


def test_an_api_that_is_away_for_a_moment_is_asked_again_with_the_same_key() -> None:
    """A proxy says 502 while it restarts; the API itself says when."""
    answers = (
        http("502 Bad Gateway", "text/html", b"<html>"),
        http("503 Service Unavailable", "application/problem+json", AWAY, "Retry-After: 0"),
        ACCEPTED,
    )
    with serving(scripted(*answers)) as peer, Client(peer.url) as client:
        assert client.submit("flow").execution_id == "1"
        keys = {
            line for one in peer.requests for line in one.split(b"\r\n") if line.lower().startswith(b"idempotency-key")
        }
        assert (len(peer.requests), len(keys)) == (3, 1)
    with serving(scripted(answers[1])) as peer, Client(peer.url, patience=0.3) as client:
        with pytest.raises(Unavailable) as failed:
            client.submit("flow")
        assert (failed.value.type, failed.value.retry_after) == ("database-away", 0)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (http("200 OK", "text/html", b"<html>hello</html>"), UnexpectedAnswer),
        (http("500 Internal Server Error", "text/html", b"<html>"), UnexpectedAnswer),
        (http("404 Not Found", "text/html", b"<html>"), UnexpectedAnswer),
        (http("302 Found", "text/html", b"", "Location: https://login.example/"), UnexpectedAnswer),
        (http("202 Accepted", "application/json", b'{"executionId": "1", '), UnexpectedAnswer),
        (http("202 Accepted", "application/json", b"[]"), UnexpectedAnswer),
        (http("202 Accepted", "application/json", b'{"executionId": 5}'), UnexpectedAnswer),
        (http("202 Accepted", "application/json", b"\xff\xfe"), UnexpectedAnswer),
        (http("202 Accepted", "application/json", b"{}", "Content-Encoding: gzip"), ConnectionFailed),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 50\r\n\r\n{", ConnectionFailed),
        (b"nonsense\r\n\r\n", ConnectionFailed),
        (b"", ConnectionFailed),
    ],
    ids=str,
)
def test_whatever_answers_it_is_one_of_our_errors(answer: bytes, kind: type[Exception]) -> None:
    """And in one line."""
    with serving(scripted(answer)) as peer, Client(peer.url, patience=0) as client:
        with pytest.raises(kind) as failed:
            client.submit("flow")
        assert "\n" not in str(failed.value)


def test_a_server_that_never_answers_is_given_up() -> None:
    """After `timeout`, and a wait after its own."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, timeout=0.2, patience=0) as client, pytest.raises(ConnectionFailed, match="in time") as failed:
            client.health()
        assert failed.value.sent


def test_the_same_with_asyncio(url: str, pool: Pool) -> None:
    """Requests, retries, following and iterations share their code; this is the other way of carrying them out."""

    async def through(client: AsyncClient) -> str:
        accepted = await client.submit(definition=ECHO, input={"n": 2**53 + 1})
        watching = client.watch(accepted.execution_id)
        assert (await anext(watching)).steps[0].status == "pending"
        with pytest.raises(ExecutionTimeout):
            await client.wait(accepted.execution_id, timeout=0.2)
        waiting = asyncio.create_task(client.result(accepted.execution_id, timeout=30))
        await asyncio.to_thread(run_through, pool, accepted.execution_id)
        assert await waiting == {"one": {"index": 0}, "two": {"index": 1}}
        assert [one.execution.input async for one in watching][-1] == {"n": 2**53 + 1}
        await client.submit_many([Request({"n": n}) for n in range(3)], definition=ECHO)
        assert len([row async for row in client.iter_executions(page_size=2)]) == 4
        with pytest.raises(NotFound):
            await client.get(uuid4())
        return accepted.execution_id

    async def main() -> None:
        async with AsyncClient(url) as client:
            execution_id = await through(client)
        with serving(Link(url, b"POST ")) as link:
            async with AsyncClient(link.url) as client:
                wish = {"definition": ECHO, "input": {"n": 1}}
                submitting = asyncio.create_task(client.submit(**wish, idempotency_key="a"))  # type: ignore[arg-type]
                await asyncio.to_thread(link.down.wait, 10)
                link.come_back()
                accepted = await submitting
                assert accepted.execution_id in link.lost[0].decode()
                assert accepted.execution_id != execution_id
        async with AsyncClient("http://127.0.0.1:1", patience=0) as client:
            with pytest.raises(ConnectionFailed):
                await client.ready()

    asyncio.run(main())
    assert executions(pool) == 5
