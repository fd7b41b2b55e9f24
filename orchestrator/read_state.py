"""Reads what reconstruct.py tells an execution's state from."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from orchestrator.reconstruct import reconstruct
from persistence.executions import get_execution_steps, require_execution
from persistence.pool import Pool, run


def read_state(pool: Pool, execution_id: UUID, at: datetime | None = None) -> dict[str, Any]:
    """As `reconstruct`. Raises NotFound for an unknown execution, and for a moment before it was made."""
    execution = require_execution(pool, execution_id)
    given = {"execution_id": execution_id}
    results, events = run(pool, "step_results", given), run(pool, "get_execution_events", given)
    return reconstruct(execution, get_execution_steps(pool, execution_id), results, events, at)
