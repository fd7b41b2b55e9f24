"""Two stored executions, compared: the rows of both in two statements, the rest is compare.py's."""

from __future__ import annotations

from uuid import UUID

from orchestrator.compare import Comparison, Run, compare
from persistence.errors import NotFound
from persistence.executions import missing
from persistence.pool import Pool, run


def compare_stored(pool: Pool, a: UUID | None, b: UUID) -> Comparison:
    """B as it differs from A, or without an A from the previous good run: the newest completed execution of the same
    workflow that was created before it. Raises NotFound."""
    first = _previous_good(pool, b) if a is None else a
    ids = [first, b]
    executions = {row["id"]: row for row in run(pool, "compare_executions", {"ids": ids})}
    steps = run(pool, "compare_steps", {"ids": ids})
    schemas = {(row["tool"], row["tool_hash"]): row["tool_schemas"] for row in steps if row["tool_schemas"]}
    runs = []
    for wanted in ids:
        if wanted not in executions:
            raise missing(pool, str(wanted))
        runs.append(Run(executions[wanted], [row for row in steps if row["execution_id"] == wanted], schemas))
    return compare(*runs)


def _previous_good(pool: Pool, execution: UUID) -> UUID:
    rows = run(pool, "previous_good", {"id": execution})
    if not rows:
        raise missing(pool, str(execution))
    found: UUID | None = rows[0]["previous_id"]
    if found is None:
        raise NotFound(
            f"before {execution} no execution of the same workflow has completed: name one to compare it with"
        )
    return found
