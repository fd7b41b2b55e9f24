"""`afu9 demo-data`: executions to look at, of a few days: completed, failed, retried, skipped, paused, decided, forked.

Every one of them goes through the transitions of the fleet, with tools that are made up and wait for nothing; afterwards its
times are moved into the past. All carry the label `demo`, by which `--remove` finds them again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID

import click

from control_center.demo.scripted_tools import SERVERS, SPEED, ScriptedTools, catalogue
from control_center.services import open_services
from orchestrator.broker import StepBroker
from orchestrator.control import Controller, Wish
from orchestrator.definition import Workflow
from orchestrator.parse import parse_document
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.json_value import encode_json
from persistence.pool import Pool, open_pool, run
from persistence.settings import Settings
from workers.engine import WorkflowEngine

LABELS = {"demo": "true"}
THREADS = 4
PEOPLE = ("ada", "grace", "linus", "ci", "webhook")
WAITING = 6  # of slow_check: for the workers that run, if any do


@dataclass(frozen=True, slots=True)
class Run:
    """One execution to be made."""

    workflow: str
    at: datetime
    request: Request
    number: int
    unlucky: float = 1.0
    then: str = ""  # what a person does afterwards: one of AFTERWARDS


@click.command("demo-data")
@click.option("--days", default=7, show_default=True, type=click.IntRange(1, 90), help="So far into the past.")
@click.option("--per-day", default=40, show_default=True, type=click.IntRange(1, 2000), help="Executions of a day.")
@click.option("--seed", default=9, show_default=True, help="The same seed makes the same executions.")
@click.option("--remove", is_flag=True, help="Remove them again, and make none.")
def demo_data_command(days: int, per_day: int, seed: int, remove: bool) -> int:
    """Fill the database with made-up executions to look at; each has the label demo."""
    with open_services(Settings.load()) as services, open_pool(services.settings.database_dsn) as pool:
        if remove:
            click.echo(f"{sum(_remove(pool))} executions removed")
            return 0
        made = make(pool, services.settings, days, per_day, seed)
        click.echo(f"{made} executions of {days} days; `afu9 demo-data --remove` removes them")
    return 0


def _remove(pool: Pool) -> Iterator[int]:
    while removed := len(run(pool, "remove_labelled", {"labels": encode_json(LABELS), "limit": 500})):
        yield removed
    run(pool, "date_costs", {"workflows": list(_workflows())})
    run(pool, "recount_workflows", {"workflows": list(_workflows())})


def make(pool: Pool, settings: Settings, days: int, per_day: int, seed: int, now: datetime | None = None) -> int:
    """How many were made. `now` is the end of the days."""
    now = now or datetime.now(UTC)
    for server in SERVERS:
        run(pool, "claim_refresh", {"server": server, "repeat_unannotated": False, "ttl": 0})
        run(pool, "store_tools", {"server": server, "era": "demo", "tools": encode_json(catalogue(server))})
    submitter = Submitter(pool, None)
    registered: dict[str, tuple[UUID, Workflow]] = {}

    def register(name: str, file: str) -> None:
        text = files(__package__).joinpath("workflows", file).read_text()
        workflow = validate(parse_document(text, source=file))
        registered[name] = (submitter.register(workflow)["id"], workflow)

    for name in _workflows():
        register(name, f"{name}.yaml")
    runs = sorted(_plan(random.Random(seed), now, days, per_day), key=lambda one: one.at)  # noqa: S311
    half = now - timedelta(days=days / 2)
    maker = _Maker(pool, settings, submitter, seed, now)
    with ThreadPoolExecutor(THREADS) as threads:
        early = [threads.submit(maker.make, one, *registered[one.workflow]) for one in runs if one.at < half]
        for future in early:
            future.result()
        register("fix_issue", "fix_issue.2.yaml")  # a second version, in the middle of the time
        for future in [threads.submit(maker.make, one, *registered[one.workflow]) for one in runs if one.at >= half]:
            future.result()
    run(pool, "date_costs", {"workflows": list(registered)})
    run(pool, "recount_workflows", {"workflows": list(registered)})
    _leave_some(pool, settings, *registered["slow_check"])
    return len(runs) + WAITING


def _workflows() -> tuple[str, ...]:
    return ("fix_issue", "release", "daily_report", "probe", "slow_check")


def _plan(chance: random.Random, now: datetime, days: int, per_day: int) -> Iterator[Run]:
    total = days * per_day
    for number in range(total):
        at = now - timedelta(days=days * chance.random(), minutes=5)
        name = chance.choices(("fix_issue", "probe", "daily_report", "release"), (45, 40, 10, 5))[0]
        unlucky = 4.0 if 0.4 < (now - at) / timedelta(days=days) < 0.45 else 1.0  # a bad morning
        then = chance.choices(("", "retry", "fork"), (80, 15, 5))[0]
        yield Run(name, at, _request(chance, name, at), number, unlucky, then)


def _request(chance: random.Random, name: str, at: datetime) -> Request:
    given: dict[str, Any]
    match name:
        case "fix_issue":
            issue = chance.randint(1000, 1999)
            given, title = {"issue": issue}, f"Issue #{issue} → pull request"
        case "release":
            version = f"v{chance.randint(1, 3)}.{chance.randint(0, 20)}.{chance.randint(0, 9)}"
            given, title = {"version": version, "needs_approval": chance.random() < 0.5}, f"Release {version}"
        case "daily_report":
            day = f"{at - timedelta(days=1):%Y-%m-%d}"
            given, title = {"day": day}, f"Numbers of {day}"
        case _:
            given, title = {}, "Shop probe"
    who = "schedule" if name in ("probe", "daily_report") else chance.choice(PEOPLE)
    return Request(
        input=given, title=title, triggered_by=who, labels=LABELS | {"team": chance.choice(("shop", "core"))}
    )


class _Maker:
    """Makes executions, several at once: each has a chance of its own, so that their order does not matter."""

    def __init__(self, pool: Pool, settings: Settings, submitter: Submitter, seed: int, now: datetime):
        self._pool = pool
        self._settings = settings
        self._submitter = submitter
        self._controller = Controller(pool, None)
        self._seed = seed
        self._now = now

    def make(self, one: Run, workflow_id: UUID, workflow: Workflow) -> None:
        chance = random.Random(f"{self._seed}-{one.number}")  # noqa: S311
        tools = ScriptedTools(chance)
        tools.unlucky = one.unlucky
        engine = WorkflowEngine(tools, pool=self._pool, settings=self._settings)
        submitted = self._submitter.submit(workflow, [one.request], workflow_id)[0]
        status = engine.go_on(submitted.execution_id).status
        made = {submitted.execution_id}
        if status == "paused" and chance.random() < 0.7:
            self._act(submitted.execution_id, "resume", chance, "approved")
            status = engine.go_on(submitted.execution_id).status
        if status == "failed" and one.then:
            tools.unlucky = 0.0  # the fault is gone when a person tries again
            again = self._act(submitted.execution_id, one.then, chance, "the service is back")
            engine.go_on(again)
            made.add(again)
        for execution_id in made:
            parameters = {"id": execution_id, "start": self._start(one), "stretch": SPEED}
            run(self._pool, "move_execution", parameters)

    def _act(self, execution_id: UUID, action: str, chance: random.Random, reason: str) -> UUID:
        wish = Wish(action, actor=chance.choice(PEOPLE[:3]), reason=reason)
        return self._controller.carry_out(execution_id, wish).execution_id

    def _start(self, one: Run) -> datetime:
        return min(one.at, self._now - timedelta(minutes=4))


def _leave_some(pool: Pool, settings: Settings, workflow_id: UUID, workflow: Workflow) -> None:
    """Executions that wait for workers, so that there is something to watch."""
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    try:
        requests = [
            Request(
                input={"seconds": 5 + 7 * number, "fails": number % 3 == 1},
                title=f"Slow check {number + 1}",
                triggered_by="ada",
                labels=LABELS,
            )
            for number in range(WAITING)
        ]
        Submitter(pool, broker).submit(workflow, requests, workflow_id)
    finally:
        broker.close()
