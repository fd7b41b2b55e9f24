"""Redis dies or hangs while a run is watched: readers are told so, the run is told on, and nothing is missing at the end."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from orchestrator.broker import StepBroker
from orchestrator.submit import Request, Submitter
from persistence.executions import get_execution_steps
from persistence.pool import Pool, open_pool
from persistence.settings import Settings
from tests.api_server import running_api
from tests.fleet import wait_until
from tests.integration.test_transitions import WORKER, renew
from tests.live_reader import Message, OneWorker, ended, reading, step_is, topic_of
from tests.outage import OwnServers, own_servers
from tests.workflows import sequence


@pytest.fixture(scope="module")
def servers() -> Iterator[OwnServers]:
    with tempfile.TemporaryDirectory(prefix="afu9-live-") as folder, own_servers(Path(folder)) as opened:
        yield opened


@pytest.fixture
def settings(servers: OwnServers, tmp_path: Path) -> Settings:
    return Settings(
        database_url=servers.endpoints.database_url,
        redis_url=servers.endpoints.redis_url,
        namespace=tmp_path.name,
        state_dir=tmp_path / "state",
    )


@pytest.fixture
def pool(settings: Settings) -> Iterator[Pool]:
    with open_pool(settings.database_dsn) as opened:
        yield opened


@pytest.fixture
def broker(settings: Settings) -> Iterator[StepBroker]:
    opened = StepBroker(settings.redis_url, namespace=settings.namespace)
    yield opened
    opened.close()


def mode_is(mode: str, count: int) -> ModeCondition:
    return ModeCondition(mode, count)


class ModeCondition:
    """The mode was told so often."""

    def __init__(self, mode: str, count: int):
        self.mode, self.left = mode, count

    def __call__(self, message: Message) -> bool:
        self.left -= message["op"] in ("hello", "mode") and message["mode"] == self.mode
        return self.left == 0


@pytest.mark.parametrize("kind", ["down", "stalled"])
def test_a_run_is_told_on_without_redis(
    servers: OwnServers, settings: Settings, pool: Pool, broker: StepBroker, kind: str
) -> None:
    """Within six seconds, in polling mode; when Redis is back, live again, and every step was told."""
    outage: AbstractContextManager[None] = getattr(servers, kind)(servers.valkey)
    renew(pool, WORKER)
    submitted = Submitter(pool, broker).submit(sequence(6), [Request(input={"n": 1})])[0]
    topic = topic_of(submitted.execution_id)
    with running_api(settings) as url:
        with reading(url) as first:
            first.until(mode_is("live", 1))
        worker = OneWorker(pool, broker)
        with reading(url, topic, "executions") as reader:
            (second,) = worker.run(submitted.ready[0]).ready
            reader.until(step_is("step_0", "completed"), 3)
            with outage:
                away_at = time.monotonic()
                (third,) = worker.run(second).ready
                reader.until(step_is("step_1", "completed"), 6)
                reader.until(mode_is("polling", 1), 6)
                assert time.monotonic() - away_at < 6
                (fourth,) = worker.run(third).ready
                (started,) = Submitter(pool, None).submit(sequence(1), [Request()])
                reader.until(step_is("step_2", "completed"), 6)
                reader.until(lambda one: one["op"] == "event" and one["data"]["id"] == str(started.execution_id), 6)
                (fifth,) = worker.run(fourth).ready
            reader.until(mode_is("live", 2), 6)
            httpx.get(f"{url}/readyz").raise_for_status()
            worker.run_all(fifth)
            reader.until(ended("completed"), 6)
            reader.until(lambda one: ended("completed")(one) and one["topic"] == "executions", 6)
    told = {one["data"]["name"]: one["data"] for one in reader.events(topic) if "name" in one["data"]}
    rows = get_execution_steps(pool, submitted.execution_id)
    assert [(told[row["step_name"]]["status"], told[row["step_name"]]["attempt"]) for row in rows] == [
        (row["status"], row["attempt"]) for row in rows
    ]


def test_the_database_away_and_back_is_outlived(
    servers: OwnServers,
    settings: Settings,
    pool: Pool,
    broker: StepBroker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The sockets stay; what was asked meanwhile is done, without waiting for a sweep."""
    monkeypatch.setattr("control_center.api.live.hub.SWEEP", 3600.0)
    renew(pool, WORKER)
    submitted = Submitter(pool, broker).submit(sequence(2), [Request(input={"n": 1})])[0]
    with running_api(settings) as url, reading(url, topic_of(submitted.execution_id)) as reader:
        with servers.down(servers.postgres):
            reader.ask(op="subscribe", topics=["executions"])
            reader.ask(op="ping")
            reader.until(lambda one: one["op"] == "pong")
            wait_until(lambda: "live: PostgreSQL" in caplog.text, 15, "a reading that fails")
        reader.until(lambda one: one["op"] == "subscribed" and one["topic"] == "executions", 15)
        OneWorker(pool, broker).run_all(submitted.ready[0])
        reader.until(ended("completed"), 15)
