"""Workers on three hosts, of which one is cut off and comes back: network namespaces, joined by a bridge in a fourth."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.broker import StepBroker
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.fleet import Fleet, count, environment, running_fleet, wait_at_rest, wait_until
from tests.integration.test_transitions_guards import look
from tests.relay import over_tcp
from tests.workflows import assert_invariants_at_rest

HUB = "192.0.2.1"  # of a range that is nobody's
STEPS = 2


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


def can_make_hosts() -> bool:
    """Whether this account may make network namespaces, and a pair of interfaces in one."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"afu9-{uuid4().hex[:6]}"
    try:
        ip("netns", "add", name)
        ip("-n", name, "link", "add", "wire", "type", "veth", "peer", "name", "other")
        ip("-n", name, "link", "add", "bridge", "type", "bridge")
    except AssertionError:
        return False
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return True


class Hosts:
    """Namespaces with one interface each, whose other ends are ports of the hub's bridge."""

    def __init__(self, names: tuple[str, ...]):
        token = uuid4().hex[:6]
        self.hub = f"afu9-{token}-hub"
        self.names = {name: f"afu9-{token}-{name}" for name in names}

    def make(self) -> None:
        ip("netns", "add", self.hub)
        ip("-n", self.hub, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.hub, "address", "add", f"{HUB}/24", "dev", "bridge")
        ip("-n", self.hub, "link", "set", "bridge", "up")
        for number, (name, host) in enumerate(self.names.items(), 2):
            ip("netns", "add", host)
            ip("-n", host, "link", "add", "wire", "type", "veth", "peer", "name", name, "netns", self.hub)
            ip("-n", host, "address", "add", f"192.0.2.{number}/24", "dev", "wire")
            ip("-n", self.hub, "link", "set", name, "master", "bridge", "up")
            for interface in ("lo", "wire"):
                ip("-n", host, "link", "set", interface, "up")

    def wire(self, name: str, state: str) -> None:
        """`down` is a cable that is pulled: whoever speaks hears nothing, not even a refusal."""
        ip("-n", self.hub, "link", "set", name, state)

    def start_worker(self, fleet: Fleet, name: str) -> subprocess.Popen[bytes]:
        return fleet.start("worker", through=("ip", "netns", "exec", self.names[name]))

    def remove(self) -> None:
        for host in (*self.names.values(), self.hub):
            subprocess.run(["ip", "netns", "del", host], capture_output=True, check=False)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    hosts = Hosts(("one", "two", "three"))
    try:
        hosts.make()
        yield hosts
    finally:
        hosts.remove()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A lease that outlasts what TCP needs to find out that a cable is back (tcp_user_timeout, persistence/pool.py)."""
    return settings.model_copy(update={"lease_seconds": 6})


@pytest.fixture
def fleet(hosts: Hosts, settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    """An orchestrator beside the servers; whatever is started then reaches them over the wire."""
    with (
        running_fleet(environment(settings), tmp_path, "orchestrator") as fleet,
        over_tcp(settings, HUB, hosts.hub) as urls,
    ):
        fleet.environment |= urls
        yield fleet


def submit(settings: Settings, pool: Pool, number: int) -> list[UUID]:
    steps = [{"name": f"s{n}", "tool": "builtin.sleep", "params": {"seconds": 1}} for n in range(STEPS)]
    with closing(StepBroker(settings.redis_url, namespace=settings.namespace)) as broker:
        submitted = Submitter(pool, broker).submit(validate({"steps": steps}), [Request() for _ in range(number)])
    return [one.execution_id for one in submitted]


def busy(pool: Pool) -> set[UUID]:
    """Workers that run a step."""
    return {row["worker_id"] for row in look(pool, "SELECT worker_id FROM workflow_steps WHERE status = 'running'")}


def alive(pool: Pool) -> int:
    return int(run(pool, "server_facts")[0]["workers_alive"])


def recorded(pool: Pool) -> list[Any]:
    return look(pool, "SELECT id, status, attempt, retry_count, completed_at, output FROM workflow_steps ORDER BY id")


@pytest.mark.slow
@pytest.mark.skipif(not can_make_hosts(), reason="needs root, iproute2, and leave to make network namespaces")
def test_a_host_that_is_cut_off_loses_nothing_and_spoils_nothing(
    hosts: Hosts, fleet: Fleet, settings: Settings, pool: Pool
) -> None:
    """Its steps are run elsewhere; when it is back its late results change no row, and it works on."""
    lost = hosts.start_worker(fleet, "one")
    wait_until(lambda: alive(pool) == 1, 20, "the first worker")
    (cut,) = (row["id"] for row in look(pool, "SELECT id FROM workers"))
    for name in ("two", "three"):
        hosts.start_worker(fleet, name)
    wait_until(lambda: alive(pool) == 3, 20, "all workers")
    ids = submit(settings, pool, 24)
    wait_until(lambda: len(busy(pool)) == 3, 20, "work on every host")
    hosts.wire("one", "down")
    assert cut in busy(pool)
    wait_at_rest(pool, ids, 60)
    assert count(pool, "completed", ids) == len(ids)
    before = recorded(pool)
    assert any(step["attempt"] > 1 for step in before)
    assert lost.poll() is None
    hosts.wire("one", "up")
    wait_until(lambda: alive(pool) == 3, 30, "the return of the worker that was cut off")
    more = submit(settings, pool, 12)
    wait_until(lambda: cut in busy(pool), 30, "work of the worker that is back")
    wait_at_rest(pool, more, 60)
    assert recorded(pool)[: len(before)] == before  # ids are in the order of time
    for execution_id in (*ids, *more):
        assert_invariants_at_rest(pool, execution_id)
    assert count(pool, "completed", more) == len(more)
    assert run(pool, "stuck_executions", {"limit": 1}) == []
    for process in fleet.processes("worker"):
        process.terminate()
    assert [process.wait(20) for process in fleet.processes("worker")] == [0, 0, 0]
