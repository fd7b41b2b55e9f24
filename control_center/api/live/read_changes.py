"""One reading of the rows: every watched execution that is due, in one statement. Runs in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from control_center.api.live.topic import Change, execution_change, step_change
from persistence.pool import Pool, run

STEPS_AT_MOST = 5000  # changed steps of one execution in one reading
NEWEST = 500  # executions: the longest page of a listing


@dataclass(frozen=True, slots=True)
class Ask:
    """An execution, and from when on changes of its steps are wanted."""

    execution_id: UUID
    since: datetime | None
    overlap: float
    steps: bool = True


@dataclass(slots=True)
class Found:
    """What a reading found of one topic. `complete_from`: changes before that may be missing."""

    read_at: datetime
    changes: list[Change] = field(default_factory=list)
    complete_from: datetime | None = None
    awaits_claim: bool = False


def read_changes(pool: Pool, asks: Sequence[Ask]) -> dict[UUID, Found]:
    """By execution; one that does not exist is left out. Raises Unreachable, TooSlow."""
    parameters = {
        "ids": [ask.execution_id for ask in asks],
        "since": [ask.since for ask in asks],
        "overlap": [ask.overlap for ask in asks],
        "steps": [ask.steps for ask in asks],
        "limit": STEPS_AT_MOST,
    }
    found: dict[UUID, Found] = {}
    for row in run(pool, "read_changes", parameters):
        if (of_one := found.get(row["id"])) is None:
            of_one = found[row["id"]] = Found(row["read_at"], [execution_change(row)])
        if row["step_id"] is not None:
            of_one.changes.append(step_change(row))
            of_one.awaits_claim |= row["awaits_claim"]
    for of_one in found.values():
        if len(of_one.changes) > STEPS_AT_MOST:
            of_one.complete_from = min(change.at for change in of_one.changes[1:])
    return found


def newest_changes(pool: Pool, since: datetime | None, overlap: float) -> Found:
    """Of the list: what changed among its newest executions."""
    rows = run(pool, "newest_changes", {"since": since, "overlap": overlap, "limit": NEWEST})
    changes = [execution_change(row) for row in rows if row["id"] is not None]
    complete_from = min(change.at for change in changes) if len(changes) == NEWEST else None
    return Found(rows[0]["read_at"], changes, complete_from)
