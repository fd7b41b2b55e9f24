"""Operations of whoever operates: controls of one execution, of many, and holds.

Carrying out a control twice is not always the same as once: a second fork is a second execution. So only pause, resume and
cancel are sent again after a lost answer, and a refusal then says that the first one was heard; for the others the caller is
told that it may have happened, and looks at the execution before asking again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack
from uuid import UUID

from control_center.client.call import Call, path, post, read, without_none
from control_center.client.control_answers import Controlled, Count, Hold, HoldList, Job, JobList, Preview, Released
from control_center.client.decode import camel
from control_center.client.errors import ConnectionFailed, Refused, Unsendable
from control_center.client.flow import Flow, ask

Id = str | UUID
Kind = Literal["workflow", "server", "tool"]
AFTER: Mapping[str, str] = {"pause": "paused", "resume": "running", "cancel": "cancelled"}
"""How an execution stands after a control that may be sent again."""


class Wish(TypedDict, total=False):
    """What a control may come with. `step`: a name or an index. `input`: params instead of the definition's, or a fork's
    input. `output`: of set-output and of a decision `done`. `variables`, `workflow` (a name), `definition`: of a fork.
    `decision`: of decide; retry, done, skip or fail. `reason`: for people."""

    reason: str | None
    step: str | int | None
    input: Mapping[str, Any] | None
    output: Any
    variables: Mapping[str, Any] | None
    workflow: str | None
    definition: Mapping[str, Any] | None
    decision: str | None


def control(execution: Id, action: str, **wish: Unpack[Wish]) -> Flow[Controlled]:
    """Carries out an action: pause, resume, cancel, retry, rerun, skip, set-output, decide, fork or replay. Of fork and
    replay the answer is the new execution. Raises Refused, NotFound, InvalidRequest."""
    call = post(_path(execution, action), _body(wish), repeatable=action in AFTER)
    return _carried_out(execution, action, call)


def preview(execution: Id, action: str, **wish: Unpack[Wish]) -> Flow[Preview]:
    """What the same control would do: steps reused and replaced, tools called. Nothing is changed. Raises the same."""
    return ask(post(_path(execution, action), _body(wish) | {"dryRun": True}), Preview)


def pause(execution: Id, *, reason: str | None = None) -> Flow[Controlled]:
    """Nothing of it is begun until it is resumed; what runs may end."""
    return control(execution, "pause", reason=reason)


def resume(execution: Id, *, reason: str | None = None) -> Flow[Controlled]:
    """A paused one goes on."""
    return control(execution, "resume", reason=reason)


def cancel(execution: Id, *, reason: str | None = None) -> Flow[Controlled]:
    """It ends now; workers are told to end its calls."""
    return control(execution, "cancel", reason=reason)


def retry(execution: Id, **wish: Unpack[Wish]) -> Flow[Controlled]:
    """A failed or cancelled one goes on from where it failed, with all results that there are."""
    return control(execution, "retry", **wish)


def fork(execution: Id, **wish: Unpack[Wish]) -> Flow[Controlled]:
    """A new execution that takes over the results before `step` (without: none); this one stays as it is."""
    return control(execution, "fork", **wish)


def replay(execution: Id, **wish: Unpack[Wish]) -> Flow[Controlled]:
    """A new execution of `step` alone, with the variables as they are."""
    return control(execution, "replay", **wish)


def control_many(
    action: str,
    *,
    ids: Sequence[Id] | None = None,
    reason: str | None = None,
    status: str | Sequence[str] | None = None,
    workflow: str | None = None,
    triggered_by: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    labels: Mapping[str, str] | None = None,
) -> Flow[Job]:
    """Pauses, resumes, cancels or retries the executions of `ids`, or those that have all the rest in common, as a job that
    survives restarts: `job` tells how far it has come."""
    chosen = _chosen(ids, status, workflow, triggered_by, since, until, labels)
    wish = {"action": action, **chosen, **without_none(reason=reason)}
    return ask(post(path("api", "workflow", "executions", "bulk"), wish, repeatable=False), Job)


def count(
    action: str,
    *,
    ids: Sequence[Id] | None = None,
    status: str | Sequence[str] | None = None,
    workflow: str | None = None,
    triggered_by: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    labels: Mapping[str, str] | None = None,
) -> Flow[Count]:
    """How many executions `control_many` would mean, and how many of them take the action."""
    chosen = _chosen(ids, status, workflow, triggered_by, since, until, labels)
    return ask(post(path("api", "workflow", "executions", "bulk"), {"action": action, **chosen, "dryRun": True}), Count)


def job(job_id: Id) -> Flow[Job]:
    """How far a job has come."""
    return ask(Call("GET", path("api", "workflow", "jobs", job_id)), Job)


def jobs(*, status: str | None = None, limit: int = 50) -> Flow[list[Job]]:
    """The newest jobs, at most 500."""
    return (yield from ask(Call("GET", path("api", "workflow", "jobs", status=status, limit=limit)), JobList)).jobs


def cancel_job(job_id: Id, *, reason: str | None = None) -> Flow[Job]:
    """What is left of a job is not done; what was done stays done. Raises Refused if nothing is left."""
    return ask(post(path("api", "workflow", "jobs", job_id, "cancel"), without_none(reason=reason)), Job)


def holds() -> Flow[list[Hold]]:
    """What is held, oldest first."""
    return (yield from ask(Call("GET", path("api", "workflow", "holds")), HoldList)).holds


def hold(kind: Kind, name: str, *, reason: str | None = None) -> Flow[bool]:
    """No new call of a tool (SERVER.TOOL), of a server, or of a workflow's executions is begun until `release`. False if it
    was held already."""
    call = post(_hold(kind, name), without_none(reason=reason))
    answer = yield replace(call, method="PUT")
    read(Hold, answer)
    return answer.status == 201


def release(kind: Kind, name: str) -> Flow[int]:
    """The calls go on; how many steps waited. Raises NotFound if nothing was held. Not repeated if its answer is lost."""
    return (yield from ask(Call("DELETE", _hold(kind, name), repeatable=False), Released)).waiting


def _carried_out(execution: Id, action: str, call: Call) -> Flow[Controlled]:
    try:
        return read(Controlled, (yield call))
    except Refused as refused:
        if not refused.repeated or refused.execution_status != AFTER.get(action):
            raise
        return Controlled(str(execution), action, refused.execution_status, list(refused.allowed), _path(execution))
    except ConnectionFailed as error:
        if not error.sent:
            raise
        told = f"{error}; {action} may have been carried out: look at the execution before asking again"
        raise ConnectionFailed(told, sent=True) from None


def _body(wish: Wish) -> dict[str, Any]:
    said = {name: value for name, value in wish.items() if value is not None or name == "output"}
    if "step" in said:
        said["step"] = str(said["step"])
    return {camel(name): value for name, value in said.items()}


def _chosen(
    ids: Sequence[Id] | None,
    status: str | Sequence[str] | None,
    workflow: str | None,
    triggered_by: str | None,
    since: datetime | None,
    until: datetime | None,
    labels: Mapping[str, str] | None,
) -> dict[str, Any]:
    found = without_none(
        status=status if status is None or isinstance(status, str) else ",".join(status),
        workflow=workflow,
        triggeredBy=triggered_by,
        since=since and since.isoformat(),
        until=until and until.isoformat(),
        label=[f"{name}:{value}" for name, value in labels.items()] if labels else None,
    )
    if (ids is None) == (not found):
        raise Unsendable("give `ids`, or something that the executions have in common, and not both")
    return {"filter": found} if ids is None else {"ids": [str(one) for one in ids]}


def _path(execution: Id, *more: object) -> str:
    return path("api", "workflow", "execution", execution, *more)


def _hold(kind: Kind, name: str) -> str:
    return path("api", "workflow", "holds", kind, name)
