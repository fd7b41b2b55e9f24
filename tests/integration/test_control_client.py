"""The client's controls against a running API, and what a lost answer to one of them means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from control_center.client import (
    AsyncClient,
    Client,
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    NotFound,
    Refused,
    Unsendable,
)
from orchestrator.broker import StepBroker
from orchestrator.work_off_jobs import work_off
from persistence.pool import Pool
from persistence.settings import Settings
from tests.api_server import running_api
from tests.drive import drive, submit
from tests.integration.test_controls import failed_at
from tests.unsteady import Link, serving
from tests.workflows import FunctionTools, echo, sequence


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    with running_api(settings) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as opened:
        yield opened


def kinds(client: Client, execution_id: UUID) -> list[str | None]:
    return [event.kind for event in client.events(execution_id) if event.event == "control"]


def test_every_control_by_its_name(client: Client, pool: Pool) -> None:
    """pause, resume, cancel, retry, fork, replay; and the rest by `control`."""
    execution_id, tools, breaks = failed_at(pool, 1, 3)
    preview = client.preview(execution_id, "retry")
    assert (preview.reused, preview.replaced, preview.status) == (["step_0"], ["step_1"], "failed")
    assert [(call.step, call.tool, call.changes, call.conditional) for call in preview.calls] == [
        ("step_1", "test.echo", None, False),
        ("step_2", "test.echo", None, False),
    ]
    breaks.at = None
    assert client.retry(execution_id, reason="mended").status == "running"
    assert client.pause(execution_id).status == "paused"
    assert client.resume(execution_id).status == "running"
    assert drive(pool, execution_id, tools) == "completed"
    (kept,) = client.results(execution_id)
    assert (kept.index, kept.status, kept.error, kept.replaced_at.utcoffset() is not None) == (
        1,
        "failed",
        "it broke",
        True,
    )
    assert client.control(execution_id, "set-output", step=2, output=None).status in ("running", "completed")
    drive(pool, execution_id, tools)
    assert client.steps(execution_id)[2].output is None
    forked = client.fork(execution_id, step="step_1", variables={"v0": 5})
    assert client.get(forked.execution_id).execution.forked_from == str(execution_id)
    assert client.steps(forked.execution_id)[0].reused_from is not None
    assert client.cancel(forked.execution_id, reason="enough").status == "cancelled"
    replayed = client.replay(execution_id, step=0, input={"value": 1})
    assert replayed.url.endswith(replayed.execution_id)
    events = [event for event in client.events(execution_id) if event.event == "control"]
    assert [event.kind for event in events] == ["retry", "pause", "resume", "set-output", "fork", "replay"]
    assert (events[0].message, events[4].detail) == ("mended", {"to": forked.execution_id})


def test_a_refusal_says_how_it_stands_and_what_it_takes(client: Client, pool: Pool) -> None:
    """In the error tree of its own, below Conflict."""
    execution_id = submit(pool, sequence(1))
    with pytest.raises(Refused) as refused:
        client.retry(execution_id)
    error = refused.value
    assert isinstance(error, Conflict)
    assert (error.type, error.status, error.execution_status) == ("action-refused", 409, "running")
    assert {"pause", "cancel"} <= set(error.allowed)
    assert client.get(execution_id).execution.allowed_actions == list(error.allowed)
    (row,) = client.iter_executions()
    assert row.allowed_actions == list(error.allowed)
    with pytest.raises(NotFound):
        client.cancel(uuid4())
    with pytest.raises(InvalidRequest):
        client.control(execution_id, "explode")


def test_holds(client: Client) -> None:
    """Once, listed, released."""
    assert client.hold("tool", "files.read/all", reason="it hurts") is True
    assert client.hold("tool", "files.read/all") is False
    (held,) = client.holds()
    assert (held.kind, held.name, held.actor, held.reason) == ("tool", "files.read/all", "anonymous", "it hurts")
    assert client.release("tool", "files.read/all") == 0
    assert client.holds() == []
    with pytest.raises(NotFound):
        client.release("tool", "files.read/all")


def test_many_at_once(client: Client, pool: Pool, settings: Settings) -> None:
    """Counted, then done as a job; what means everything is not sent."""
    ids = [submit(pool, sequence(1), labels={"team": "a"}) for _ in range(3)]
    client.pause(ids[0])
    counted = client.count("pause", labels={"team": "a"}, status=["running", "paused"])
    assert (counted.total, counted.takes, counted.more) == (3, 2, False)
    job = client.control_many("cancel", ids=ids, reason="enough")
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    work_off(pool, broker, 30)
    broker.close()
    ended = client.job(job.id)
    assert (ended.status, ended.total, ended.done, ended.refused) == ("completed", 3, 3, 0)
    bad: list[Callable[[], Any]] = [
        lambda: client.control_many("cancel"),
        lambda: client.count("cancel", ids=ids, status="running"),
    ]
    for wish in bad:
        with pytest.raises(Unsendable, match="in common"):
            wish()


@pytest.mark.parametrize("action", ["pause", "cancel"])
def test_a_lost_answer_to_what_may_be_repeated_is_no_error(url: str, pool: Pool, action: str) -> None:
    """The second one is refused, because the first one was heard."""
    execution_id = submit(pool, sequence(1))
    with serving(Link(url, b"POST ")) as link, Client(link.url) as client, ThreadPoolExecutor(1) as threads:
        asking = threads.submit(client.control, execution_id, action)
        assert link.down.wait(10)
        link.come_back()
        done = asking.result(30)
        assert len(link.requests) == 2
        assert done.status == {"pause": "paused", "cancel": "cancelled"}[action]
        assert done.allowed_actions == client.get(execution_id).execution.allowed_actions
        assert kinds(client, execution_id) == [action]


def test_a_refusal_that_is_another_ones_stays_one(url: str, pool: Pool) -> None:
    """Without a lost answer, an execution that is paused already refuses to be."""
    execution_id = submit(pool, sequence(1))
    with Client(url) as client:
        client.pause(execution_id)
        with pytest.raises(Refused):
            client.pause(execution_id)


def test_a_lost_answer_to_what_may_not_be_repeated_is_told(url: str, pool: Pool) -> None:
    """A second fork would be a second execution."""
    execution_id = submit(pool, sequence(1))
    drive(pool, execution_id, FunctionTools(echo=echo))
    with serving(Link(url, b"POST ")) as link, Client(link.url) as client:
        with pytest.raises(ConnectionFailed, match="look at the execution before asking again") as failed:
            client.fork(execution_id)
        assert failed.value.sent
        assert len(link.requests) == 1
        link.come_back()
        assert kinds(client, execution_id) == ["fork"]
        assert len(list(client.iter_executions())) == 2


def test_the_same_with_asyncio(url: str, pool: Pool) -> None:
    """A lost answer too."""
    execution_id = submit(pool, sequence(1))

    async def main() -> None:
        with serving(Link(url, b"POST ")) as link:
            async with AsyncClient(link.url) as client:
                asking = asyncio.create_task(client.pause(execution_id))
                await asyncio.to_thread(link.down.wait, 10)
                link.come_back()
                assert (await asking).status == "paused"
                with pytest.raises(Refused):
                    await client.pause(execution_id)
                assert (await client.preview(execution_id, "resume")).status == "paused"

    asyncio.run(main())
