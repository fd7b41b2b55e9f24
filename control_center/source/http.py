"""The HTTP API as a source. The API's answers become rows, its problems our errors with their exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from control_center.client import Client, ExecutionDetail, errors
from control_center.client.decode import camel
from control_center.client.operate import Kind
from control_center.client.operate import Wish as Given
from control_center.progress import iso
from control_center.read_files import read_bytes
from control_center.show_comparison import ShownComparison
from control_center.source import Chosen, Control, Row, Source, Whole, Wish
from orchestrator.price import nanos_of
from persistence.errors import (
    Afu9Error,
    Disabled,
    Fault,
    InvalidDefinition,
    InvalidInput,
    NotAllowed,
    NotFound,
    Refused,
    Unreachable,
)
from persistence.executions import id_bounds

PATIENCE = 3.0  # seconds: a person waits for the answer
PAYLOADS = ("input", "output", "context")


@contextmanager
def open_http(url: str, key_file: Path | None, mcp_config: Path | None) -> Iterator[Source]:
    """The API at `url`, with the key of the file or of AFU9_API_KEY."""
    if mcp_config is not None:
        raise InvalidInput("--mcp-config is for workers of this machine; over HTTP the API's workers run the steps")
    with translated(), Client(url, _key(key_file), patience=PATIENCE) as client:
        yield HttpSource(client)


class HttpSource:
    """See Source."""

    lasts = True

    def __init__(self, client: Client):
        self._client = client

    def find(self, text: str) -> UUID:
        id_bounds(text)
        return UUID(self._client.find(text))

    def recent(self, limit: int, status: str | None) -> Sequence[Row]:
        found = self._client.iter_executions(limit=limit, status=status, page_size=limit)
        return [_row(one) | {"title": one.title or one.workflow} for one in found]

    def whole(self, execution_id: UUID) -> Whole:
        detail = self._client.get(execution_id)
        events = self._client.events(execution_id)
        return Whole(
            _row(detail.execution)
            | {"workflow_name": detail.execution.workflow, "max_cost_nanos": _nanos(detail.execution.max_cost_usd)},
            [_row(step) | {"step_name": step.name, "step_index": step.index} for step in detail.steps],
            [_row(event) | {"created_at": event.at} for event in events],
        )

    def state(self, execution_id: UUID, at: datetime | None) -> Mapping[str, Any]:
        state: Mapping[str, Any] = _object(self._client.state(execution_id, at=at))
        return state

    def compare(self, a: UUID | None, b: UUID) -> ShownComparison:
        return ShownComparison.model_validate_json(json.dumps(_object(self._client.compare(a, b))))

    def costs(self, days: int, by: str) -> Sequence[Row]:
        return [_row(one) for one in self._client.costs(f"{days}d", by).costs]

    def stats(self, window: str, by: str, workflow: str | None) -> Mapping[str, Any]:
        told: Mapping[str, Any] = _object(self._client.stats(window, by, workflow=workflow))
        return told

    def queues(self) -> Mapping[str, Any]:
        told: Mapping[str, Any] = _object(self._client.queues())
        return told

    def workers(self) -> Mapping[str, Any]:
        told: Mapping[str, Any] = _object(self._client.workers())
        return told

    def progress(self, execution_id: UUID) -> Iterator[Row]:
        row: dict[str, Any] = {}
        for seen in self._client.poll(execution_id, hide=PAYLOADS):
            row = _progress(seen) if seen is not None else row
            yield row

    def workers_alive(self) -> bool:
        return self._client.ready().workers > 0

    def results(self, execution_id: UUID) -> Sequence[Row]:
        return [_row(one) | {"step_index": one.index} for one in self._client.results(execution_id)]

    def preview(self, execution_id: UUID, control: Control) -> Row:
        return asdict(self._client.preview(execution_id, control.action, **cast(Given, control.given)))

    def carry_out(self, execution_id: UUID, control: Control) -> Row:
        done = asdict(self._client.control(execution_id, control.action, **cast(Given, control.given)))
        return {name: value for name, value in done.items() if name != "url"}

    def hold(self, kind: str, name: str, actor: str, reason: str | None) -> bool:
        return self._client.hold(cast(Kind, kind), name, reason=reason)

    def release(self, kind: str, name: str, actor: str) -> int:
        return self._client.release(cast(Kind, kind), name)

    def holds(self) -> Sequence[Row]:
        return [_row(one) for one in self._client.holds()]

    def count(self, chosen: Chosen) -> Row:
        return asdict(self._client.count(chosen.action, **_common(chosen)))

    def control_many(self, chosen: Chosen, actor: str, reason: str | None) -> Row:
        return asdict(self._client.control_many(chosen.action, reason=reason, **_common(chosen)))

    def jobs(self, limit: int, status: str | None) -> Sequence[Row]:
        return [asdict(one) for one in self._client.jobs(status=status, limit=limit)]

    def job(self, job_id: UUID) -> Row:
        return asdict(self._client.job(job_id))

    def cancel_job(self, job_id: UUID, actor: str, reason: str | None) -> Row:
        return asdict(self._client.cancel_job(job_id, reason=reason))

    def working(self) -> AbstractContextManager[None]:
        return nullcontext()

    @contextmanager
    def started(self, wish: Wish) -> Iterator[UUID]:
        accepted = self._client.submit(
            definition=wish.definition,
            input=wish.input,
            context=wish.context,
            title=wish.title,
            triggered_by=wish.triggered_by,
            idempotency_key=wish.idempotency_key,
        )
        yield UUID(accepted.execution_id)


def _row(value: Any) -> dict[str, Any]:
    row = {one.name: getattr(value, one.name) for one in fields(value)}
    return row | {"cost_nanos": _nanos(row.get("cost_usd"))}


def _nanos(dollars: str | None) -> int | None:
    return None if dollars is None else nanos_of(dollars)


def _object(value: Any) -> Any:
    """As the API sent it: its names in camelCase."""
    if is_dataclass(value):
        return {camel(one.name): _object(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, datetime):
        return iso(value)
    return [_object(one) for one in value] if isinstance(value, list) else value


def _progress(seen: ExecutionDetail) -> dict[str, Any]:
    execution, counts = seen.execution, seen.metadata
    return {
        "id": execution.id,
        "status": execution.status,
        "started_at": execution.started_at,
        "completed_at": execution.completed_at,
        "read_at": datetime.now(UTC),
        "steps_total": counts.total_steps,
        "steps_done": counts.completed_steps + counts.skipped_steps + counts.failed_steps,
        "running_name": next((step.name for step in seen.steps if step.status == "running"), None),
        "retries": sum(step.retry_count for step in seen.steps),
    }


def _common(chosen: Chosen) -> dict[str, Any]:
    if chosen.ids:
        return {"ids": chosen.ids}
    return {
        "status": chosen.statuses or None,
        "workflow": chosen.workflow,
        "triggered_by": chosen.triggered_by,
        "since": chosen.since,
        "until": chosen.until,
        "labels": chosen.labels or None,
    }


def _key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        key = read_bytes(file).decode().strip()
    except UnicodeDecodeError:
        key = ""
    if not key:
        raise InvalidInput(f"{file} holds no key")
    return key


@contextmanager
def translated() -> Iterator[None]:
    """The client's errors as ours."""
    try:
        yield
    except errors.ClientError as error:
        raise _translation(error) from None


def _translation(error: errors.ClientError) -> Afu9Error:
    match error:
        case errors.InvalidRequest(type="invalid-definition", errors=found):
            return InvalidDefinition([_fault(one) for one in found])
        case errors.InvalidRequest(detail=detail):
            return InvalidInput(detail)
        case errors.Refused(detail=detail, execution_status=status, allowed=allowed):
            return Refused(detail, status, allowed)
        case errors.Conflict(type="workflow-disabled", detail=detail):
            return Disabled(detail)
        case errors.NotFound(detail=detail):
            return NotFound(detail)
        case errors.Unauthenticated() | errors.Forbidden():
            return NotAllowed(f"the API refuses: {error.detail}; the key comes from AFU9_API_KEY or --api-key-file")
        case errors.RateLimited() | errors.Unavailable():
            return Unreachable(f"the API cannot serve now: {error}")
        case errors.UnexpectedAnswer():
            return Afu9Error(f"the answer is not an AFU-9 API's: {error}")
        case errors.ConnectionFailed():
            return Unreachable(str(error))
        case errors.Unsendable():
            return InvalidInput(str(error))
    return Afu9Error(f"the API answers {error}")


def _fault(found: Any) -> Fault:
    return Fault(str(found.get("pointer", "")), str(found.get("detail", "")), str(found.get("hint") or ""))
