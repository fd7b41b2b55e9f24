"""Many executions at once: those that were ticked, or all that a filter finds. Counted first and confirmed, then a job.

Invariant: the job takes no more executions than the question showed. Up to IDS are meant by their ids, more by the filter
with its times made fixed; if more take it at the deed than were shown, it is asked again. Above TYPED the number is typed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from control_center.api.audit import audit
from control_center.api.auth import Principal
from control_center.api.problems import Problem
from control_center.api.read_executions import selected
from control_center.dashboard.export_executions import export
from control_center.dashboard.filter_executions import Wanted, chips, find, find_ids, query_of, selection
from control_center.dashboard.pages import Pairs, Reader, go, must, page
from control_center.make_job import BULK_ACTIONS, COUNTED, IDS, Many, by_filter, by_ids, count, make_job, said
from orchestrator.judge_control import ACTIONS
from persistence.errors import InvalidInput
from persistence.pool import Pool, run

router = APIRouter(prefix="/ui", include_in_schema=False)
TYPED = 100
SAMPLE = 5
CALLING = ("retry", "resume")  # steps are called then
LOOKED = 100_000  # at so many steps, whether they may destroy
TELLS = {
    "pause": "Nothing more of them begins until they are resumed; what runs may end.",
    "resume": "They go on where they were paused.",
    "cancel": "They end now; workers are told to end their calls. It cannot be undone, but they can be retried.",
    "retry": "They go on with all results that there are; what failed is called again.",
}


@router.post("/bulk")
def act_on_many(request: Request, reader: Reader, given: Pairs) -> Response:
    """What the list's buttons ask for; and, with `do=confirm`, the deed."""
    fields = dict(given)
    ids = _ids(given)
    wanted = _wanted(fields.get("query", ""))
    all_that_match = "all" in fields
    match fields.get("action", ""):
        case "compare":
            if len(ids) != 2 or all_that_match:
                raise InvalidInput("tick two executions to compare them")
            return go(request, "/ui/compare?" + urlencode({"a": ids[0], "b": ids[1]}))
        case "jsonl" | "csv" as shape:
            if all_that_match:
                return go(request, f"/ui/export?{query_of(wanted)}&format={shape}")
            return export(request.app.state.read_pool, _some(ids), shape)
        case action if action in BULK_ACTIONS:
            must(reader, "operator")
            now = datetime.now(UTC)
            if all_that_match:
                wanted = _fixed(wanted, now)
                many = _all_of(request.app.state.read_pool, action, wanted, now)
            else:
                many = by_ids(action, _some(ids))
            return _control(request, reader, many, wanted, fields)
    raise InvalidInput("there is no such action")


def _control(request: Request, reader: Principal, many: Many, wanted: Wanted, fields: Mapping[str, str]) -> Response:
    pool: Pool = request.app.state.pool
    counted = count(request.app.state.read_pool, many)
    fault: str | None = None
    if fields.get("do") == "confirm" and (fault := _unlike(fields, counted["takes"])) is None:
        job = make_job(pool, many, counted, reader.name, fields.get("reason", "").strip()[:2000] or None)
        audit(pool, reader, "executions.bulk", str(job["id"]), said(many, job))
        return go(request, f"/ui/jobs/{job['id']}")
    return _ask(request, reader, many, counted, wanted, fields, fault)


def _ask(
    request: Request,
    reader: Principal,
    many: Many,
    counted: Mapping[str, Any],
    wanted: Wanted,
    fields: Mapping[str, str],
    fault: str | None,
) -> Response:
    pool: Pool = request.app.state.read_pool
    if many.ids is None:
        sample = find(pool, wanted.model_copy(update={"limit": SAMPLE}), datetime.now(UTC)).rows
    else:
        sample = find_ids(pool, many.ids, SAMPLE)
    takes = counted["takes"]
    destructive = None
    if many.ids is not None and many.action in CALLING:  # a filter that finds more is not looked through
        parameters = {"ids": list(many.ids), "takes": sorted(ACTIONS[many.action]), "limit": LOOKED}
        destructive = run(pool, "count_destructive", parameters)[0]
    matched = "all" in fields or "matched" in fields
    return page(
        request,
        "bulk.html",
        422 if fault else 200,
        reader=reader,
        action=many.action,
        tells=TELLS[many.action],
        statuses=sorted(ACTIONS[many.action]),
        found=counted["total"],
        found_words=_words(counted["total"], counted["more"]),
        takes=takes,
        takes_words=_words(takes, takes >= COUNTED and counted["more"]),
        refused=counted["total"] - takes,
        typed=takes > TYPED,
        destructive=destructive,
        looked=LOOKED,
        ids=many.ids,
        query=query_of(wanted),
        matched=matched,
        chips=chips(wanted) if matched else [],
        sample=sample,
        reason=fields.get("reason", ""),
        fault=fault,
    )


def _unlike(fields: Mapping[str, str], takes: int) -> str | None:
    """Why it is asked again: it is not what the question showed. What was shown may have become less."""
    digits = fields.get("shown", "")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
        raise InvalidInput("the confirmation does not say how many were shown")
    shown = int(digits)
    if not takes:
        return "none of them takes it any more"
    if takes > shown:
        return f"nothing was done yet: {takes:,} take it now, and {shown:,} were shown"
    if shown > TYPED and fields.get("number", "").replace(",", "").strip() != digits:
        return f"nothing was done yet: {shown:,} was to be typed"
    return None


def _words(number: int, more: bool) -> str:
    return f"more than {number:,}" if more else f"{number:,}"


def _ids(given: Sequence[tuple[str, str]]) -> list[UUID]:
    """Each once."""
    try:
        return list(dict.fromkeys(UUID(value) for name, value in given if name == "id"))
    except ValueError:
        raise InvalidInput("an id is not one of an execution") from None


def _some(ids: Sequence[UUID]) -> Sequence[UUID]:
    if not ids:
        raise InvalidInput("nothing was ticked: tick executions, or all that match the filter")
    return ids


def _wanted(query: str) -> Wanted:
    """The filter as the list's address has it, from its first page on. Raises Problem."""
    values = {name: found if name in ("status", "label") else found[0] for name, found in parse_qs(query).items()}
    try:
        return Wanted.model_validate(values).model_copy(update={"cursor": None, "to": "older"})
    except ValidationError as error:
        raise Problem("invalid-request", f"the filter cannot be read: {error.errors()[0]['msg']}") from None


def _fixed(wanted: Wanted, now: datetime) -> Wanted:
    """The same with the times that it means now: the question and the deed mean the same executions, and none made later.
    Raises InvalidInput if nothing filters."""
    if not chips(wanted):
        raise InvalidInput("no filter is set, which would mean every execution: choose a status, a workflow or a time")
    until = now if wanted.until is None else min(wanted.until, now)
    return wanted.model_copy(update={"since": selection(wanted, now).since, "until": until, "window": None})


def _all_of(pool: Pool, action: str, wanted: Wanted, now: datetime) -> Many:
    """Raises InvalidInput, Problem."""
    listed = find(pool, wanted.model_copy(update={"limit": IDS + 1}), now)
    if len(listed.rows) <= IDS and not listed.cut:
        if not listed.rows:
            raise InvalidInput("no execution matches the filter")
        return by_ids(action, [row["id"] for row in listed.rows])
    if wanted.q or wanted.needs:  # what a job's filter cannot say
        raise InvalidInput(f"that finds more than {IDS:,} executions, too many to act on at once: narrow it")
    return by_filter(action, selected(pool, selection(wanted, now)))
