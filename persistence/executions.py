"""The original's persistence operations, by their names: create, update and read executions and steps.

They record what a caller did itself. Executions that the fleet runs are written by the transitions (transitions.py) and
read here. Rows are dictionaries with the columns of schema.sql; times are aware datetimes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import errors
from psycopg.rows import DictRow

from persistence.errors import Archived, InvalidInput, NotFound
from persistence.ids import time_ordered_uuid
from persistence.json_value import encode_json
from persistence.pool import Pool, run


def create_execution(
    pool: Pool,
    workflow_id: UUID | None,
    input: Any,
    context: Any,
    triggered_by: str | None = None,
    github_run_id: str | None = None,
) -> UUID:
    """A new execution in status running; its id."""
    parameters = {
        "id": time_ordered_uuid(),
        "workflow_id": workflow_id,
        "input": _stored(input, "the input"),
        "context": _stored(context, "the context"),
        "triggered_by": triggered_by,
        "github_run_id": github_run_id,
    }
    return _id(_write(pool, "create_execution", parameters), f"workflow {workflow_id}")


def update_execution_status(
    pool: Pool, execution_id: UUID, status: str, output: Any = None, error: str | None = None
) -> None:
    """Sets status, output and error; completed_at too when the status is terminal."""
    parameters = {"id": execution_id, "status": status, "output": _stored(output, "the output"), "error": error}
    _id(_write(pool, "update_execution_status", parameters), f"execution {execution_id}")


def update_execution_context(pool: Pool, execution_id: UUID, context: Any) -> None:
    """Replaces the context."""
    parameters = {"id": execution_id, "context": _stored(context, "the context")}
    _id(_write(pool, "update_execution_context", parameters), f"execution {execution_id}")


def create_step(pool: Pool, execution_id: UUID, step_name: str, step_index: int, input: Any) -> UUID:
    """A new step in status running, started now; its id."""
    parameters = {
        "id": time_ordered_uuid(),
        "execution_id": execution_id,
        "step_name": step_name,
        "step_index": step_index,
        "input": _stored(input, "the input"),
    }
    return _id(_write(pool, "create_step", parameters), f"execution {execution_id}")


def update_step(
    pool: Pool,
    step_id: UUID,
    status: str,
    output: Any = None,
    error: str | None = None,
    duration_ms: int | None = None,
) -> None:
    """Sets status, output, error and duration; completed_at too when the status is terminal."""
    parameters = {
        "id": step_id,
        "status": status,
        "output": _stored(output, "the output"),
        "error": error,
        "duration_ms": duration_ms,
    }
    _id(_write(pool, "update_step", parameters), f"step {step_id}")


def increment_step_retry(pool: Pool, step_id: UUID) -> None:
    """Counts one more retry."""
    _id(_write(pool, "increment_step_retry", {"id": step_id}), f"step {step_id}")


def get_execution(pool: Pool, execution_id: UUID) -> DictRow | None:
    """The execution's row, or None. While it runs, `context` is composed of the rows: every variable assigned so far."""
    rows = run(pool, "get_execution", {"id": execution_id})
    return rows[0] if rows else None


def require_execution(pool: Pool, execution_id: UUID) -> DictRow:
    """The execution's row. Raises NotFound."""
    execution = get_execution(pool, execution_id)
    if execution is None:
        raise missing(pool, str(execution_id))
    return execution


def missing(pool: Pool, text: str) -> NotFound:
    """What has become of an execution that has no row; `text`: its id, or its beginning. Archived, if it is in a file."""
    rows = run(pool, "find_archived", id_bounds(text))
    if len(rows) != 1:
        return NotFound(f"no execution {text}: `afu9 ls` lists them")
    execution, at, location = rows[0]["execution_id"], rows[0]["created_at"], rows[0]["location"]
    return Archived(
        f"execution {execution} was archived on {at:%Y-%m-%d} to {location}: "
        f"`afu9 restore {location} --execution {execution}` brings it back"
    )


def get_execution_steps(pool: Pool, execution_id: UUID) -> list[DictRow]:
    """All steps of an execution, by step_index."""
    return run(pool, "get_execution_steps", {"execution_id": execution_id})


def get_recent_executions(pool: Pool, limit: int = 50) -> list[DictRow]:
    """The newest executions by started_at."""
    return run(pool, "get_recent_executions", {"limit": limit})


def reconstruct_execution(pool: Pool, execution_id: UUID) -> dict[str, Any]:
    """The execution's state from the database, in the original's shape:
    {executionId, status, input, context, steps: [{name, status, output, duration, retries}]}. duration in ms.
    Raises NotFound."""
    return execution_state(require_execution(pool, execution_id), get_execution_steps(pool, execution_id))


def execution_state(execution: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same, of rows that were read already."""
    return {
        "executionId": str(execution["id"]),
        "status": execution["status"],
        "input": execution["input"],
        "context": execution["context"],
        "steps": [
            {
                "name": step["step_name"],
                "status": step["status"],
                "output": step["output"],
                "duration": step["duration_ms"],
                "retries": step["retry_count"],
            }
            for step in steps
        ],
    }


def find_execution(pool: Pool, text: str) -> UUID:
    """The execution that `text`, an id or the beginning of one, names. Raises NotFound, or InvalidInput if ambiguous."""
    rows = run(pool, "find_executions", id_bounds(text))
    if not rows:
        raise missing(pool, text)
    if len(rows) > 1:
        raise InvalidInput(f"more than one execution begins with {text}: give more of the id")
    found: UUID = rows[0]["id"]
    return found


def id_bounds(text: str) -> dict[str, UUID]:
    """The first and the last id that begin so. Raises InvalidInput."""
    digits = text.lower().replace("-", "")
    if not digits or len(digits) > 32 or set(digits) - set("0123456789abcdef"):
        raise InvalidInput(f"{text!r} is not an execution id: ids are UUIDs, or the beginning of one")
    return {"first": UUID(digits.ljust(32, "0")), "last": UUID(digits.ljust(32, "f"))}


def _stored(value: Any, what: str) -> str | None:
    """None stays SQL's NULL here, as the original stores it."""
    return None if value is None else encode_json(value, what=what)


def _write(pool: Pool, query: str, parameters: dict[str, Any]) -> list[DictRow]:
    try:
        return run(pool, query, parameters)
    except InvalidInput as refused:
        match refused.__cause__:
            case errors.CheckViolation():
                raise InvalidInput(f"{parameters['status']!r} is not a status of the schema") from None
            case errors.UniqueViolation():
                raise InvalidInput(f"the execution has a step with index {parameters['step_index']} already") from None
            case errors.ForeignKeyViolation():
                return []
            case _:
                raise


def _id(rows: list[DictRow], what: str) -> UUID:
    if not rows:
        raise NotFound(f"no {what}")
    found: UUID = rows[0]["id"]
    return found
