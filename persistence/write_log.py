"""How a process writes its log: lines for people, or with AFU9_LOG_FORMAT=json one JSON object a line for machines.

A line says which attempt its thread is busy with; one that is about another says so itself, with `extra`. The trace of an
execution has the execution's id, so a line names it whether or not anybody traces (docs/traces.md).
"""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from persistence.settings import Settings

if TYPE_CHECKING:
    from persistence.transitions import Claim

TEXT: Final = "%(asctime)s %(levelname)s %(message)s"
IDS: Final[tuple[str, ...]] = (
    "execution_id",
    "step_id",
    "step",
    "attempt",
)  # the names of `extra`, and of a line's keys

BUSY_WITH: ContextVar[tuple[Claim, str] | None] = ContextVar("busy_with", default=None)
"""The attempt that this thread runs or charges, and its step's name. None while it records for other threads."""


def begin_log(settings: Settings, level: str | None = None, form: str = TEXT) -> None:
    """Sets the root logger up. Where somebody has done that already, as Dramatiq's command does, its level and its text
    stay. `level`: instead of the settings'; `form`: of lines of text."""
    logging.basicConfig(level=level or settings.log_level, format=form)
    if settings.log_format == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines())


def name_worker(worker_id: UUID) -> None:
    """From now on JSON lines say whose they are."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonLines):
            handler.formatter.worker = str(worker_id)


def about(claim: Claim) -> dict[str, Any]:
    """`extra` of a line about a claim that is not this thread's."""
    return {"execution_id": claim.execution_id, "step_id": claim.step_id, "attempt": claim.attempt}


class JsonLines(logging.Formatter):
    """time (UTC), level, logger, message; trace_id, execution_id, step_id, step, attempt, worker, exception where known."""

    worker = ""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        ids = {name: vars(record)[name] for name in IDS if name in vars(record)} or _busy_with()
        if isinstance(execution := ids.get("execution_id"), UUID):
            line["trace_id"] = execution.hex
        line |= ids
        if self.worker:
            line["worker"] = self.worker
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["exception"] = record.exc_text
        return json.dumps(line, default=str)


def _busy_with() -> dict[str, Any]:
    if (found := BUSY_WITH.get()) is None:
        return {}
    claim, step = found
    return {**about(claim), "step": step}
