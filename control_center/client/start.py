"""Operations that start executions. Each request carries an idempotency key, given or made here, so that a lost answer
costs a repetition and never a second execution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import uuid4

from control_center.client.answers import Accepted, AcceptedBatch, DryRun, Request
from control_center.client.call import Call, body, path, post, read, without_none
from control_center.client.errors import Unsendable
from control_center.client.flow import Flow, ask

BATCH = 1000  # requests of one transaction, as the API takes them
BATCH_BYTES = 8 * 1024 * 1024  # of its 16 MiB


def submit(
    workflow: str | None = None,
    *,
    definition: Mapping[str, Any] | None = None,
    input: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    title: str | None = None,
    labels: Mapping[str, str] | None = None,
    triggered_by: str | None = None,
    github_run_id: str | None = None,
    idempotency_key: str | None = None,
) -> Flow[Accepted]:
    """Starts an execution of the registered `workflow`, or of a `definition`. `input` is what `${input.…}` reads, `context`
    what `${repo.…}` and the like do. The same `idempotency_key` (255 characters of ASCII) gives the same execution."""
    wish = _target(workflow, definition) | without_none(
        input=input,
        context=context,
        title=title,
        labels=labels,
        triggeredBy=triggered_by,
        githubRunId=github_run_id,
    )
    return _started(post(path("api", "workflow", "executions"), wish, key=_key(idempotency_key)))


def trigger(
    name: str,
    *,
    input: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    title: str | None = None,
    labels: Mapping[str, str] | None = None,
    triggered_by: str | None = None,
    idempotency_key: str | None = None,
) -> Flow[Accepted]:
    """Starts an execution of the newest version of the workflow `name`."""
    wish = without_none(input=input, context=context, title=title, labels=labels, triggeredBy=triggered_by)
    return _started(post(path("api", "workflow", "workflows", name, "trigger"), wish, key=_key(idempotency_key)))


def dry_run(
    workflow: str | None = None,
    *,
    definition: Mapping[str, Any] | None = None,
    input: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
) -> Flow[DryRun]:
    """Which tools `submit` would have called; nothing is written."""
    wish = _target(workflow, definition) | without_none(input=input, context=context) | {"dryRun": True}
    return ask(post(path("api", "workflow", "executions"), wish), DryRun)


def submit_many(
    requests: Iterable[Request], *, workflow: str | None = None, definition: Mapping[str, Any] | None = None
) -> Flow[list[Accepted]]:
    """Starts one execution per Request, in order, each thousand in one transaction. After an error the call can be made
    again with the same Requests: those that were started are not started twice."""
    head = body(_target(workflow, definition))[:-1] + b',"requests":['
    accepted: list[Accepted] = []
    for batch in _batches(requests):
        content = head + b",".join(batch) + b"]}"
        call = Call(
            "POST", path("api", "workflow", "executions", "batch"), content, {"Content-Type": "application/json"}
        )
        accepted += (yield from ask(call, AcceptedBatch)).executions
    return accepted


def _batches(requests: Iterable[Request]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for request in requests:
        wish = {"input": request.input, "context": request.context, "labels": request.labels}
        written = body(wish | without_none(title=request.title, idempotencyKey=_key(request.idempotency_key)))
        if batch and (len(batch) == BATCH or size + len(written) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(written)
        size += len(written)
    if batch:
        yield batch


def _started(call: Call) -> Flow[Accepted]:
    answer = yield call
    accepted = read(Accepted, answer)
    replayed = answer.headers.get("idempotency-replayed") == "true"
    return Accepted(accepted.execution_id, accepted.workflow_id, accepted.url, replayed)


def _target(workflow: str | None, definition: Mapping[str, Any] | None) -> dict[str, Any]:
    if (workflow is None) == (definition is None):
        raise Unsendable("give `workflow`, the name of a registered one, or `definition`, and not both")
    return {"workflow": workflow} if workflow is not None else {"definition": definition}


def _key(given: str | None) -> str:
    key = str(uuid4()) if given is None else given
    if not (0 < len(key) <= 255 and key.isascii() and key.isprintable() and key == key.strip()):
        raise Unsendable("an idempotency key is 1 to 255 printable characters of ASCII")
    return key
