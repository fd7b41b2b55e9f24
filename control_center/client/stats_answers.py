"""What the API answers of many executions at once: what ended, what waits, and who works."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class EndedStat:
    """What ended under a name. `name`: empty where there is none, `…` for all workflows beyond the most busy. `success_rate`:
    completed, of those that completed or failed. Durations in ms, of what completed."""

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


@dataclass(frozen=True, slots=True)
class ErrorStat:
    """Failed steps whose errors differ in ids, times and numbers only. `example`: the execution that failed last; it may be
    gone."""

    failures: int
    kind: str
    tool: str
    text: str
    workflows: list[str]
    first_seen: datetime
    last_seen: datetime
    example: str


@dataclass(frozen=True, slots=True)
class StatList:
    """`until`: so far all is counted; None: nothing yet. `next_at`: when more is."""

    window: str
    by: str
    since: datetime
    until: datetime | None
    next_at: datetime
    stats: list[EndedStat]
    errors: list[ErrorStat]


@dataclass(frozen=True, slots=True)
class QueueStat:
    """`more`: ready and delayed are at least so many. `drain_minutes`: None, it grows or stands still."""

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


@dataclass(frozen=True, slots=True)
class RedisStat:
    """`away`: why it did not answer, else None. Messages that wait, that workers have, and that nobody could read."""

    away: str | None
    milliseconds: float
    waiting: int
    fetched: int
    dead: int


@dataclass(frozen=True, slots=True)
class SchemaVersions:
    database: int
    code: int


@dataclass(frozen=True, slots=True)
class QueueList:
    """`stuck`: executions that nothing will move, at most 100; None: too many run to be looked through."""

    queues: list[QueueStat]
    outbox_seconds: float
    stuck: list[str] | None
    redis: RedisStat
    postgres_ms: float
    schema_version: SchemaVersions


@dataclass(frozen=True, slots=True)
class WorkerStat:
    id: str
    role: str
    hostname: str
    pid: int
    threads: int
    running: int
    started_at: datetime
    heartbeat_at: datetime
    silent_seconds: float
    alive: bool


@dataclass(frozen=True, slots=True)
class WorkerList:
    workers: list[WorkerStat]
    total: int
