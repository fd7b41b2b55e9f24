"""Where commands read executions from and hand them to: a database, or the HTTP API in front of one.

A command knows a Source and nothing behind it; both give the same rows, with the columns of schema.sql, so that its output
and its exit code are the same. What is behind is imported when it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

import click

from persistence.errors import InvalidInput

if TYPE_CHECKING:
    from control_center.show_comparison import ShownComparison

Row = Mapping[str, Any]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Whole:
    """An execution, its steps by index, and its events in order. The events are read last and may know more."""

    execution: Row
    steps: Sequence[Row]
    events: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Wish:
    """An execution that somebody wants: a definition as it was read, and what it is started with."""

    definition: Any
    input: dict[str, Any]
    context: dict[str, Any]
    title: str | None
    triggered_by: str
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Control:
    """What an operator wants of an execution. `given`: what was said, of reason, step, input, output, variables, workflow (a
    name), definition, decision. `actor` counts for the database; an API knows whose key it is."""

    action: str
    given: Mapping[str, Any]
    actor: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """Executions that one control is meant for: those of `ids`, or those that have all the rest in common."""

    action: str
    ids: Sequence[UUID] = ()
    statuses: Sequence[str] = ()
    workflow: str | None = None
    triggered_by: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class Source(Protocol):
    """Every method raises Afu9Error: NotFound for an id that names nothing, Unreachable if nobody answers."""

    def find(self, text: str) -> UUID:
        """The execution that an id, or the beginning of one, names."""

    def recent(self, limit: int, status: str | None) -> Sequence[Row]:
        """The newest executions: id, title, status, started_at, completed_at, error, triggered_by."""

    def whole(self, execution_id: UUID) -> Whole:
        """Everything about one."""

    def state(self, execution_id: UUID, at: datetime | None) -> Mapping[str, Any]:
        """What it was at that moment, or is now: the original's state object. Raises NotFound for a moment before it was."""

    def compare(self, a: UUID | None, b: UUID) -> ShownComparison:
        """B as it differs from A, or without an A from its previous good run. Raises NotFound if there is none."""

    def costs(self, days: int, by: str) -> Sequence[Row]:
        """What was spent on so many UTC days, by workflow, server, tool or day: name, calls, unpriced_calls, cost_nanos."""

    def stats(self, window: str, by: str, workflow: str | None) -> Mapping[str, Any]:
        """What ended in 24h, 7d, 30d or 90d, by workflow, step, tool, server or time: as the API answers it."""

    def queues(self) -> Mapping[str, Any]:
        """What waits, as the API answers it."""

    def workers(self) -> Mapping[str, Any]:
        """Who holds a lease, as the API answers it."""

    def progress(self, execution_id: UUID) -> Iterator[Row]:
        """One row per look, for as long as it is asked for: status, steps_total, steps_done, running_name, retries, times."""

    def workers_alive(self) -> bool:
        """Whether anybody would run a step."""

    def results(self, execution_id: UUID) -> Sequence[Row]:
        """Results of its steps that a person had replaced, oldest first."""

    def preview(self, execution_id: UUID, control: Control) -> Row:
        """What a control would do: execution_id, action, status, allowed_actions, reused, replaced, calls. Raises Refused,
        InvalidInput, InvalidDefinition."""

    def carry_out(self, execution_id: UUID, control: Control) -> Row:
        """execution_id (of fork and replay the new one's), action, status, allowed_actions. Raises what `preview` raises."""

    def hold(self, kind: str, name: str, actor: str, reason: str | None) -> bool:
        """Whether it was not held before."""

    def release(self, kind: str, name: str, actor: str) -> int:
        """How many steps waited. Raises NotFound if nothing was held."""

    def holds(self) -> Sequence[Row]:
        """kind, name, actor, reason, created_at; oldest first."""

    def count(self, chosen: Chosen) -> Row:
        """action, total, more (there are more than that), takes (those that take the action). Raises InvalidInput if nothing
        is chosen, NotFound for ids that name nothing."""

    def control_many(self, chosen: Chosen, actor: str, reason: str | None) -> Row:
        """The job that was made of it. Raises what `count` raises."""

    def jobs(self, limit: int, status: str | None) -> Sequence[Row]:
        """The newest jobs, with the columns of control_jobs."""

    def job(self, job_id: UUID) -> Row:
        """With its errors. Raises NotFound."""

    def cancel_job(self, job_id: UUID, actor: str, reason: str | None) -> Row:
        """What is left of it is not done. Raises NotFound, and Refused if nothing is left."""

    def working(self) -> AbstractContextManager[None]:
        """Until its end, what executions need to run is there."""

    def started(self, wish: Wish) -> AbstractContextManager[UUID]:
        """Starts an execution; until the end of the `with`, what it needs to run is there. Raises InvalidDefinition."""

    @property
    def lasts(self) -> bool:
        """Whether executions go on without this command."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the options say. `url` empty: the database of the settings."""

    url: str
    key_file: Path | None

    def open(self, *, start: bool = False, mcp_config: Path | None = None) -> AbstractContextManager[Source]:
        """`start`: embedded servers are started where nothing else is configured. `mcp_config`: the servers of our own
        workers. Raises InvalidInput."""
        if self.key_file is not None and not self.url:
            raise InvalidInput("--api-key-file is for an API: give --url too, or set AFU9_URL")
        if self.url:
            from control_center.source.http import open_http

            return open_http(self.url, self.key_file, mcp_config)
        from control_center.source.database import open_database

        return open_database(start, mcp_config)


def place_options(command: F) -> F:
    """`--url` and `--api-key-file`, as parameters of these names."""
    url = click.option("--url", envvar="AFU9_URL", default="", help="An API; default AFU9_URL, else the database.")
    key = click.option(
        "--api-key-file",
        type=click.Path(path_type=Path),
        help="A file with the API's key; default the variable AFU9_API_KEY.",
    )
    return url(key(command))
