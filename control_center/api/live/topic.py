"""What the readers of one topic have been told, and what is news to them. Pure: rows in, messages out.

Invariant: nothing is missed, in whatever order commits become visible. A row carries its transaction's start as the time
of its change, so it may appear behind rows that are newer. Every read therefore goes back a little (OVERLAP), a sweep
goes back by more than a transaction can last (LONGEST), and what was told already is known by its attempt, status and time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from control_center.api import shapes
from control_center.api.live.messages import EPOCH, EXECUTIONS, Subscribed, event, say, write_position
from control_center.api.live.outbox import Outbox
from persistence.pool import STATEMENT_SECONDS

OVERLAP = 2.0  # seconds
LONGEST = STATEMENT_SECONDS + 5.0  # seconds: PostgreSQL ends our statements before
REMEMBERED = 10_000  # executions of the list
FEW = 100  # steps: of fewer nothing need be forgotten
UNTOLD = {"input", "output", "override", "reused_from"}  # of a step: whoever wants them reads the execution


@dataclass(frozen=True)
class Change:
    """A row that changed."""

    id: UUID
    kind: str
    at: datetime
    attempt: int
    status: str
    row: DictRow

    @property
    def version(self) -> tuple[Any, ...]:
        return self.attempt, self.status, self.at

    @cached_property
    def data(self) -> str:
        """JSON text, made once for all readers."""
        if self.kind == "execution.changed":
            return shapes.execution_row(self.row).model_dump_json(by_alias=True)
        return json.dumps(_step_change(self.row))


def execution_change(row: DictRow) -> Change:
    return Change(row["id"], "execution.changed", row["updated_at"], 0, row["status"], row)


def step_change(row: DictRow) -> Change:
    """Of a row of read_changes.sql that has a step."""
    return Change(row["step_id"], "step.changed", row["step_updated_at"], row["attempt"], row["step_status"], row)


class Topic:
    """`joining`: readers that wait for the next read, with the position from which they are to be told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.execution_id = None if name == EXECUTIONS else UUID(name.partition(":")[2])
        self.readers: set[Outbox] = set()
        self.joining: dict[Outbox, datetime | None] = {}
        self.position: datetime | None = None  # None: never read
        self.wide = True  # whether the next read is a sweep
        self.due_at: float | None = None
        self.free_at = float("-inf")  # when the next reading may be
        self.again = 0.0  # seconds to the next look for a claim, which sends no hint
        self._entering: dict[Outbox, datetime | None] = {}  # those whom the reading under way will let in
        self._seen: dict[UUID, tuple[Any, ...]] = {}

    def begin(self) -> tuple[datetime | None, float]:
        """What the reading that begins must reach back to: a time (None: now) and an overlap in seconds."""
        self._entering = dict(self.joining)
        needed = [(after, LONGEST) for after in self._entering.values() if after is not None]
        if self.position is not None:
            needed.append((self.position, LONGEST if self.wide else OVERLAP))
        if not needed:
            return None, LONGEST
        return min(needed, key=lambda one: one[0] - timedelta(seconds=one[1]))

    def tell(self, changes: Sequence[Change], read_at: datetime, complete_from: datetime | None = None) -> None:
        """Hands the news to the readers and lets the joining ones in. `complete_from`: the answer was cut, and may lack
        changes before that."""
        ordered = sorted(changes, key=lambda one: (one.at, one.kind == "execution.changed"))
        before = self.position
        if before is not None:
            news = [one for one in ordered if self._seen.get(one.id) != one.version]
            self._hand(self.readers, before, news, complete_from)
        self.position = max([before or read_at, *(one.at for one in ordered)])
        self._remember(ordered)
        for reader, after in self._entering.items():
            if self.joining.get(reader, EPOCH) != after:
                continue  # gone, or come again from elsewhere since
            del self.joining[reader]
            self.readers.add(reader)
            start = self.position if after is None else min(after, read_at)
            reader.say(say(Subscribed(topic=self.name, position=write_position(start))))
            if after is not None:
                missed = [one for one in ordered if one.at >= start - timedelta(seconds=LONGEST)]
                self._hand([reader], start, missed, complete_from)
        self._entering = {}
        self.wide = False

    def skip(self) -> None:
        """The changes are too many to be told: whoever waits for them is to read anew."""
        for reader in self.readers:
            reader.resync(self.name, write_position(self.position or EPOCH))
        for reader, after in self.joining.items():
            if after is not None:
                reader.resync(self.name, write_position(after))
                self.joining[reader] = None

    def _hand(
        self, readers: Iterable[Outbox], before: datetime, news: Sequence[Change], complete_from: datetime | None
    ) -> None:
        if complete_from is not None and complete_from > before:
            for reader in readers:
                reader.resync(self.name, write_position(max([before, *(one.at for one in news)])))
            return
        position = before
        for change in news:
            position = max(position, change.at)
            message = event(self.name, position, change.kind, change.data)
            for reader in readers:
                reader.put(self.name, change.id, message)

    def _remember(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._seen.pop(change.id, None)
            self._seen[change.id] = change.version
        if self.execution_id is None:
            while len(self._seen) > REMEMBERED:
                del self._seen[next(iter(self._seen))]
        elif self.position is not None and len(self._seen) > FEW:
            oldest = self.position - timedelta(seconds=2 * LONGEST)
            self._seen = {
                row: version for row, version in self._seen.items() if version[2] >= oldest or row == self.execution_id
            }


def _step_change(row: DictRow) -> dict[str, Any]:
    step = {
        **row,
        "id": row["step_id"],
        "status": row["step_status"],
        "started_at": row["step_started_at"],
        "completed_at": row["step_completed_at"],
        "error": row["step_error"],
        "cost_nanos": row["step_cost_nanos"],
        "unpriced_calls": row["step_unpriced_calls"],
        **dict.fromkeys(UNTOLD),
    }
    return shapes.step_shape(step).model_dump(by_alias=True, exclude=UNTOLD)
