"""The database as a source: the configured one, that of a running `afu9 dev`, or an embedded one of this command's own.

With embedded servers the worker is ours too, unless their owner has one; else the fleet's workers run the steps.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

from control_center import make_job
from control_center.check_wish import check_wish
from control_center.list_tools import tool_schemas
from control_center.progress import show_state
from control_center.read_control import read_control
from control_center.services import Services, open_services
from control_center.show_comparison import ShownComparison, show_comparison
from control_center.source import Chosen, Control, Row, Source, Whole, Wish
from control_center.tell_fleet import queues_object, workers_object
from control_center.tell_stats import stats_object
from orchestrator import trace
from orchestrator.broker import StepBroker
from orchestrator.compare_stored import compare_stored
from orchestrator.control import Controller, Done, Preview
from orchestrator.read_state import read_state
from orchestrator.recover import Recovery
from orchestrator.submit import Request, Submitter
from persistence.executions import find_execution, get_execution_steps, require_execution
from persistence.json_value import encode_json
from persistence.pool import Pool, open_pool, run
from persistence.settings import Settings
from persistence.write_log import begin_log

INTERVAL = 0.1  # seconds between two looks


@contextmanager
def open_database(start: bool, mcp_config: Path | None) -> Iterator[Source]:
    """`start`: as open_services."""
    settings = Settings.load()
    if mcp_config is not None:
        settings = settings.model_copy(update={"mcp_config": mcp_config})
    with ExitStack() as stack:
        yield DatabaseSource(settings, start, stack)


class DatabaseSource:
    """See Source. Nothing is opened, and no server started, before it is needed."""

    def __init__(self, settings: Settings, start: bool, stack: ExitStack):
        self._settings = settings
        self._start = start
        self._stack = stack

    @cached_property
    def _services(self) -> Services:
        return self._stack.enter_context(open_services(self._settings, start=self._start))

    @cached_property
    def _pool(self) -> Pool:
        dsn = self._services.settings.database_dsn
        return self._stack.enter_context(open_pool(dsn))

    @property
    def lasts(self) -> bool:
        return self._services.origin != "embedded"

    def find(self, text: str) -> UUID:
        return find_execution(self._pool, text)

    def recent(self, limit: int, status: str | None) -> Sequence[Row]:
        return run(self._pool, "list_executions", {"limit": limit, "status": status})

    def whole(self, execution_id: UUID) -> Whole:
        return Whole(
            require_execution(self._pool, execution_id),
            get_execution_steps(self._pool, execution_id),
            run(self._pool, "get_execution_events", {"execution_id": execution_id}),
        )

    def state(self, execution_id: UUID, at: datetime | None) -> Mapping[str, Any]:
        return show_state(read_state(self._pool, execution_id, at))

    def compare(self, a: UUID | None, b: UUID) -> ShownComparison:
        return show_comparison(compare_stored(self._pool, a, b))

    def costs(self, days: int, by: str) -> Sequence[Row]:
        return run(self._pool, "sum_costs", {"days": days, "by": by})

    def stats(self, window: str, by: str, workflow: str | None) -> Mapping[str, Any]:
        return stats_object(self._pool, window, by, workflow)

    def queues(self) -> Mapping[str, Any]:
        with self._broker() as broker:
            return queues_object(self._pool, broker)

    def workers(self) -> Mapping[str, Any]:
        return workers_object(self._pool)

    def progress(self, execution_id: UUID) -> Iterator[Row]:
        require_execution(self._pool, execution_id)
        while True:
            yield run(self._pool, "get_progress", {"ids": [execution_id]})[0]
            threading.Event().wait(INTERVAL)

    def workers_alive(self) -> bool:
        return bool(run(self._pool, "server_facts")[0]["workers_alive"])

    def results(self, execution_id: UUID) -> Sequence[Row]:
        return run(self._pool, "step_results", {"execution_id": execution_id})

    def preview(self, execution_id: UUID, control: Control) -> Row:
        wish = read_control(self._pool, execution_id, control.action, control.given, control.actor)
        found = Controller(self._pool, None).preview(execution_id, wish)
        lists = {
            "reused": list(found.reused),
            "replaced": list(found.replaced),
            "calls": [asdict(one) for one in found.calls],
        }
        return _controlled(found) | lists

    def carry_out(self, execution_id: UUID, control: Control) -> Row:
        wish = read_control(self._pool, execution_id, control.action, control.given, control.actor)
        with self._controller() as controller:
            done = controller.carry_out(execution_id, wish)
        said = {name: control.given[name] for name in ("reason", "step", "decision") if control.given.get(name)}
        made = {"made": str(done.execution_id)} if done.execution_id != execution_id else {}
        self._audit(control.actor, f"execution.{control.action}", str(execution_id), said | made)
        return _controlled(done)

    def hold(self, kind: str, name: str, actor: str, reason: str | None) -> bool:
        with self._controller() as controller:
            held = controller.hold(kind, name, actor, reason)
        if held:
            self._audit(actor, f"{kind}.hold", name, {"reason": reason})
        return held

    def release(self, kind: str, name: str, actor: str) -> int:
        with self._controller() as controller:
            waiting = controller.release(kind, name)
        self._audit(actor, f"{kind}.release", name, {"waiting": waiting})
        return waiting

    def holds(self) -> Sequence[Row]:
        return run(self._pool, "list_holds")

    def count(self, chosen: Chosen) -> Row:
        return make_job.count(self._pool, self._many(chosen))

    def control_many(self, chosen: Chosen, actor: str, reason: str | None) -> Row:
        many = self._many(chosen)
        job = make_job.make_job(self._pool, many, make_job.count(self._pool, many), actor, reason)
        self._audit(actor, "executions.bulk", str(job["id"]), make_job.said(many, job))
        return make_job.get_job(self._pool, job["id"])

    def jobs(self, limit: int, status: str | None) -> Sequence[Row]:
        return run(self._pool, "list_jobs", {"status": status, "at": None, "id": None, "limit": limit})

    def job(self, job_id: UUID) -> Row:
        return make_job.get_job(self._pool, job_id)

    def cancel_job(self, job_id: UUID, actor: str, reason: str | None) -> Row:
        new, job = make_job.cancel_job(self._pool, job_id, actor, reason)
        if new:
            self._audit(actor, "job.cancel", str(job_id), {"reason": reason})
        return job

    def _many(self, chosen: Chosen) -> make_job.Many:
        if chosen.ids:
            return make_job.by_ids(chosen.action, chosen.ids)
        found = make_job.select(
            self._pool,
            statuses=chosen.statuses,
            workflow=chosen.workflow,
            triggered_by=chosen.triggered_by,
            since=chosen.since,
            until=chosen.until,
            labels=chosen.labels,
        )
        return make_job.by_filter(chosen.action, found)

    @contextmanager
    def _broker(self) -> Iterator[StepBroker]:
        settings = self._services.settings
        broker = StepBroker(settings.redis_url, namespace=settings.namespace)
        try:
            yield broker
        finally:
            broker.close()

    @contextmanager
    def _controller(self) -> Iterator[Controller]:
        with trace.during("cli"), self._broker() as broker:
            yield Controller(self._pool, broker)

    def _audit(self, actor: str, action: str, target: str, detail: Mapping[str, Any]) -> None:
        row = {"principal": f"cli:{actor}", "action": action, "target": target, "detail": encode_json(dict(detail))}
        run(self._pool, "write_audit", row)

    @contextmanager
    def started(self, wish: Wish) -> Iterator[UUID]:
        check_wish(wish, self._settings)
        workflow = check_wish(wish, self._settings, tool_schemas(self._pool))
        request = Request(
            input=wish.input,
            context=wish.context,
            title=wish.title,
            triggered_by=wish.triggered_by,
            idempotency_key=wish.idempotency_key,
        )
        settings = self._services.settings
        with trace.during("cli", payloads=settings.trace_payloads), self.working():
            broker = StepBroker(settings.redis_url, namespace=settings.namespace)
            try:
                yield Submitter(self._pool, broker).submit(workflow, [request])[0].execution_id
            finally:
                broker.close()

    @contextmanager
    def working(self) -> Iterator[None]:
        services = self._services
        if services.origin == "configured" or (services.origin == "attached" and self.workers_alive()):
            yield
            return
        from workers.serve import Served

        settings = services.settings
        begin_log(settings, "WARNING", "%(levelname)s %(message)s")
        pool = open_pool(settings.database_dsn)
        broker = StepBroker(settings.redis_url, namespace=settings.namespace)
        recovery = Recovery(pool, broker, settings)
        served = Served(settings.model_copy(update={"drain_seconds": 2.0}), watched=False)
        recovery.start()
        try:
            yield
            services.wait_for_others()
        finally:
            recovery.stop()
            served.stop()
            broker.close()
            pool.close()


def _controlled(told: Preview | Done) -> dict[str, Any]:
    return {
        "execution_id": str(told.execution_id),
        "action": told.action,
        "status": told.status,
        "allowed_actions": list(told.allowed),
    }
