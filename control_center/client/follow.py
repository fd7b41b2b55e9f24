"""Operations that read executions and follow them to their end.

Following asks again and again, with the ETag of what is known, so that an unchanged execution costs the API one statement
and no body; the pauses grow while nothing changes. A follower outlives a restart of the API.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from control_center.client.answers import (
    Event,
    EventList,
    ExecutionDetail,
    ExecutionPage,
    ExecutionRow,
    Found,
    ResultList,
    State,
    Step,
    StepDetail,
    StepResult,
)
from control_center.client.call import Call, Pause, path, read
from control_center.client.comparison_answers import Comparison
from control_center.client.errors import ConnectionFailed, ExecutionFailed, ExecutionTimeout
from control_center.client.flow import Emit, Flow, Stream, ask

SHORTEST_PAUSE, LONGEST_PAUSE, GROWTH = 0.1, 2.0, 1.5  # seconds, seconds, per look without change
FOLLOWER_PATIENCE = 60.0  # seconds
PAYLOADS = ("input", "output", "context")
Id = str | UUID


def get(execution: Id, *, hide: Sequence[str] = ()) -> Flow[ExecutionDetail]:
    """An execution with all of its steps. `hide`: payloads to leave out, of input, output and context."""
    return ask(Call("GET", _path(execution, hide=list(hide))), ExecutionDetail)


def steps(execution: Id) -> Flow[list[Step]]:
    """Its steps, by index."""
    return (yield from get(execution, hide=("context",))).steps


def step(execution: Id, index: int) -> Flow[StepDetail]:
    """A step, with the attempts that failed, were lost or handed back."""
    return ask(Call("GET", _path(execution, "steps", index)), StepDetail)


def events(execution: Id, *, after: int = 0) -> Flow[list[Event]]:
    """What happened to it beyond what its steps tell; `after`: events with a greater id."""
    return (yield from ask(Call("GET", _path(execution, "events", after=after)), EventList)).events


def compare(a: Id | None, b: Id) -> Flow[Comparison]:
    """B as it differs from A, or with None for A from its previous good run: the newest completed one of the same workflow
    that was made before it. Raises NotFound."""
    previous = "true" if a is None else None
    return ask(Call("GET", path("api", "workflow", "compare", a=a, b=b, previousGood=previous)), Comparison)


def state(execution: Id, *, at: datetime | None = None) -> Flow[State]:
    """What it is, or was at a past moment (an aware datetime). Raises NotFound for a moment before it was made."""
    return ask(Call("GET", _path(execution, "state", at=None if at is None else at.isoformat())), State)


def results(execution: Id) -> Flow[list[StepResult]]:
    """Results of its steps that a person had replaced, oldest first."""
    return (yield from ask(Call("GET", _path(execution, "results")), ResultList)).results


def find(beginning: str) -> Flow[str]:
    """The id of the one execution whose id begins so. Raises NotFound; InvalidRequest if there are more."""
    found = yield from ask(Call("GET", path("api", "workflow", "find", beginning)), Found)
    return found.execution_id


def iter_executions(
    *,
    status: str | Sequence[str] | None = None,
    workflow: str | None = None,
    triggered_by: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    labels: Mapping[str, str] | None = None,
    text: str | None = None,
    limit: int | None = None,
    page_size: int = 100,
) -> Stream[ExecutionRow]:
    """Executions, newest first, page after page. `since`, `until`: when they were made (aware times). `text`: in title,
    error or triggered_by, of the last 7 days if `since` says nothing. `limit`: so many in all."""
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        address = path(
            "api",
            "workflow",
            "executions",
            limit=page_size if left is None else min(page_size, left),
            cursor=cursor,
            status=status if status is None or isinstance(status, str) else ",".join(status),
            workflow=workflow,
            triggeredBy=triggered_by,
            since=since and since.isoformat(),
            until=until and until.isoformat(),
            label=[f"{name}:{value}" for name, value in (labels or {}).items()],
            q=text,
        )
        page = yield from ask(Call("GET", address), ExecutionPage)
        for row in page.executions:
            yield Emit(row)
        left = None if left is None else left - len(page.executions)
        cursor = page.next_cursor
        if cursor is None:
            return


def wait(execution: Id, timeout: float | None = None) -> Flow[ExecutionDetail]:
    """Returns it once it has completed, failed or been cancelled. `timeout`: seconds. Raises ExecutionTimeout."""
    deadline = None if timeout is None else time.monotonic() + timeout
    looks = _Looks(execution, PAYLOADS)
    while True:
        try:
            seen = yield from looks.look(deadline)
        except ConnectionFailed as error:
            if not error.sent or deadline is None or time.monotonic() < deadline:
                raise
            raise ExecutionTimeout(
                str(execution), looks.status, timeout or 0
            ) from error  # the deadline cut the answer off
        if seen is not None and seen.execution.ended:
            return (yield from get(execution))
        left = LONGEST_PAUSE if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise ExecutionTimeout(str(execution), looks.status, timeout or 0)
        yield Pause(min(looks.pause, left))


def result(execution: Id, timeout: float | None = None) -> Flow[dict[str, Any]]:
    """Waits for its end and returns its output: the variables its steps assigned. Raises ExecutionFailed, which names the
    failing step, and ExecutionTimeout."""
    detail = yield from wait(execution, timeout)
    ended = detail.execution
    if ended.status == "completed":
        return dict(ended.output or {})
    failed = next((one for one in detail.steps if one.status == "failed"), None)
    if failed is None:
        raise ExecutionFailed(ended.id, ended.status, None, None, ended.error)
    raise ExecutionFailed(ended.id, ended.status, failed.name, failed.error_kind, failed.error)


def poll(execution: Id, *, hide: Sequence[str] = ()) -> Stream[ExecutionDetail | None]:
    """Its state whenever it changed, None after a look that found it as it was; ends with its end."""
    looks = _Looks(execution, hide)
    while True:
        seen = yield from looks.look()
        yield Emit(seen)
        if seen is not None and seen.execution.ended:
            return
        yield Pause(looks.pause)


def watch(execution: Id, *, hide: Sequence[str] = ()) -> Stream[ExecutionDetail]:
    """Its state, now and whenever it changed; ends with its end. States that last less than a look may be left out."""
    looks = _Looks(execution, hide)
    while True:
        seen = yield from looks.look()
        if seen is not None:
            yield Emit(seen)
            if seen.execution.ended:
                return
        yield Pause(looks.pause)


class _Looks:
    """Looking at one execution again and again."""

    def __init__(self, execution: Id, hide: Sequence[str]):
        self._path = _path(execution, hide=list(hide))
        self._tag: str | None = None
        self.status = "unknown"
        self.pause = SHORTEST_PAUSE

    def look(self, deadline: float | None = None) -> Flow[ExecutionDetail | None]:
        """None: as it was."""
        known = self._tag is not None
        headers = {"If-None-Match": self._tag} if self._tag is not None else {}
        patience = FOLLOWER_PATIENCE if known else None
        answer = yield Call("GET", self._path, headers=headers, patience=patience, deadline=deadline)
        if answer.status == 304:
            self.pause = min(self.pause * GROWTH, LONGEST_PAUSE)
            return None
        seen = read(ExecutionDetail, answer)
        self._tag = answer.headers.get("etag")
        self.status = seen.execution.status
        self.pause = SHORTEST_PAUSE
        return seen


def _path(execution: Id, *more: object, **query: object) -> str:
    return path("api", "workflow", "execution", execution, *more, **query)
