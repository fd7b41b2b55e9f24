"""What ended and how, what waits, and who works: the figures of the pages, for programs."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request

from control_center.api.auth import needs
from control_center.api.problems import documented
from control_center.api.shapes import _Shape
from control_center.read_stats import By
from control_center.tell_fleet import queues_object, workers_object
from control_center.tell_stats import stats_object

router = APIRouter(prefix="/api/workflow", tags=["stats"], dependencies=[Depends(needs("viewer"))])
WindowName = Literal["24h", "7d", "30d", "90d"]


class EndedStat(_Shape):
    """What ended under a name: of executions by workflow and time, of steps by step, tool and server. `name`: empty where
    there is none; `…`: all workflows beyond the 50 most busy. `workflow`: of a step. `successRate`: completed, of those that
    completed or failed. Durations in ms, of what completed."""

    name: str
    workflow: str
    endings: int
    completed: int
    failed: int
    cancelled: int
    skipped: int
    retried: int
    lost: int
    success_rate: float | None
    mean_ms: int | None
    p50_ms: int | None
    p95_ms: int | None


class ErrorStat(_Shape):
    """Failed steps whose errors differ in ids, times and numbers only. `example`: the execution that failed last; it may be
    gone."""

    failures: int
    kind: str
    tool: str
    text: str
    workflows: list[str]
    first_seen: str
    last_seen: str
    example: str


class StatList(_Shape):
    """`until`: so far all is counted; null: nothing yet. `nextAt`: when more is."""

    window: WindowName
    by: By
    since: str
    until: str | None
    next_at: str
    stats: list[EndedStat]
    errors: list[ErrorStat]


class QueueStat(_Shape):
    """`more`: ready and delayed are at least so many. `drainMinutes`: null, it grows or stands still."""

    name: str
    ready: int
    delayed: int
    more: bool
    oldest_seconds: float | None
    next_seconds: float | None
    running: int
    slots: int
    in_per_minute: int
    out_per_minute: int
    drain_minutes: float | None
    workers_alive: int
    workers_silent: int


class RedisStat(_Shape):
    """`away`: why it did not answer, else null; then the rest is 0."""

    away: str | None
    milliseconds: float
    waiting: int
    fetched: int
    dead: int


class SchemaVersions(_Shape):
    database: int
    code: int


class QueueList(_Shape):
    """`stuck`: executions that nothing will move, at most 100; null: too many run to be looked through."""

    queues: list[QueueStat]
    outbox_seconds: float
    stuck: list[str] | None
    redis: RedisStat
    postgres_ms: float
    schema_version: SchemaVersions


class WorkerStat(_Shape):
    id: str
    role: str
    hostname: str
    pid: int
    threads: int
    running: int
    started_at: str
    heartbeat_at: str
    silent_seconds: float
    alive: bool


class WorkerList(_Shape):
    workers: list[WorkerStat]
    total: int


@router.get("/stats", responses=documented("invalid-request"))
def read_stats(
    request: Request,
    window: WindowName = "24h",
    by: By = "workflow",
    workflow: Annotated[str | None, Query(max_length=255)] = None,
) -> StatList:
    """What ended in a window of time, and the most frequent errors."""
    return StatList.model_validate(stats_object(request.app.state.read_pool, window, by, workflow or None))


@router.get("/queues", responses=documented())
def read_queues(request: Request) -> QueueList:
    """What waits, what runs, and what stands in its way."""
    return QueueList.model_validate(queues_object(request.app.state.read_pool, request.app.state.broker))


@router.get("/workers", responses=documented())
def read_workers(request: Request) -> WorkerList:
    """The processes that hold a lease, those heard last first; at most 200."""
    return WorkerList.model_validate(workers_object(request.app.state.read_pool))
