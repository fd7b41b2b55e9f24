"""What a reader of the list looks for: it stands in the page's address, and each part of it can be taken away again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from uuid import UUID

from psycopg.rows import DictRow
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from control_center.api.paging import decode_cursor, encode_cursor
from control_center.api.read_executions import TEXT_WINDOW, Selection, selected
from persistence.json_value import encode_json
from persistence.pool import Pool, run

WINDOWS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
WINDOW_WORDS = {"1h": "last hour", "24h": "last 24 h", "7d": "last 7 days"}
SIZES = (20, 50, 100, 200)
USUAL = 50
UNDECIDED = 2000  # steps that need a decision, the newest of them: others are not looked at
ENTRIES = 20  # statuses, labels


def _utc(value: datetime) -> datetime:
    """A time without a zone is UTC, as the fields say."""
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError("there is no such time in UTC") from None


def _each(value: Any) -> Any:
    """Several by commas, or by the field's name said again."""
    return [part for one in value for part in str(one).split(",") if part] if isinstance(value, list) else value


Text = Annotated[str, Field(max_length=255)]
Moment = Annotated[datetime, AfterValidator(_utc)]


class Wanted(BaseModel):
    """The query of the list. `window` or `since` and `until`; `needs=decision`: a step's outcome is unknown."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    q: Annotated[str, Field(min_length=2, max_length=100)] | None = None
    status: Annotated[list[str], BeforeValidator(_each), Field(max_length=ENTRIES)] = []
    workflow: Text | None = None
    triggered_by: Text | None = None
    window: Literal["1h", "24h", "7d"] | None = None
    since: Moment | None = None
    until: Moment | None = None
    label: Annotated[list[str], Field(max_length=ENTRIES)] = []
    needs: Literal["decision"] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = USUAL
    cursor: Annotated[str, Field(max_length=500)] | None = None
    to: Literal["older", "newer"] = "older"
    region: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        """A form sends its empty fields too; they filter nothing."""
        if not isinstance(given, Mapping):
            return given
        filled = {
            name: [one for one in value if str(one).strip()] if isinstance(value, list) else value
            for name, value in given.items()
        }
        return {name: value for name, value in filled.items() if not isinstance(value, str) or value.strip()}


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter in words, and the query without it."""

    words: str
    without: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A page's rows, newest first. `older` and `newer`: cursors, if there may be more. `cut`: more executions need a decision
    than were looked at."""

    rows: list[DictRow]
    older: str | None
    newer: str | None
    cut: bool


def query_of(wanted: Wanted, **changed: Any) -> str:
    """As an address has it after its question mark, each thing once; None leaves one out."""
    said = wanted.model_dump(include=set(Wanted.model_fields) - {"region", "cursor", "to"}, by_alias=True) | changed
    if said["limit"] == USUAL:
        del said["limit"]
    said["status"] = ",".join(said["status"] or ())
    pairs: list[tuple[str, str]] = []
    for name, value in said.items():
        ones = value if isinstance(value, list) else [value]
        pairs += [(name, one.isoformat() if isinstance(one, datetime) else str(one)) for one in ones if one]
    return urlencode(pairs)


def chips(wanted: Wanted) -> list[Chip]:
    """What filters now, in words."""
    found = []

    def add(words: str, **without: Any) -> None:
        found.append(Chip(words, query_of(wanted, **without)))

    if wanted.q:
        add(f"text: {wanted.q}", q=None)
    for status in wanted.status:
        add(f"status: {status}", status=[one for one in wanted.status if one != status])
    if wanted.workflow:
        add(f"workflow: {wanted.workflow}", workflow=None)
    if wanted.triggered_by:
        add(f"trigger: {wanted.triggered_by}", triggeredBy=None)
    if wanted.window:
        add(WINDOW_WORDS[wanted.window], window=None)
    for name, moment in (("since", wanted.since), ("until", wanted.until)):
        if moment:
            add(f"{name} {moment.isoformat(' ')[:16]} UTC", **{name: None})
    for label in wanted.label:
        add(f"label: {label}", label=[one for one in wanted.label if one != label])
    if wanted.needs:
        add("needs a decision", needs=None)
    return found


def selection(wanted: Wanted, now: datetime) -> Selection:
    """What of it are columns; `window` as the time that it is now."""
    since = now - WINDOWS[wanted.window] if wanted.window else wanted.since
    return Selection(
        status=",".join(wanted.status) or None,
        workflow=wanted.workflow,
        triggered_by=wanted.triggered_by,
        since=since,
        until=wanted.until,
        label=wanted.label,
    )


def forced_window(wanted: Wanted) -> timedelta | None:
    """The time in which a text is looked for, if the reader has named none."""
    return TEXT_WINDOW if wanted.q and not wanted.window and not wanted.since and not wanted.needs else None


def find(pool: Pool, wanted: Wanted, now: datetime) -> Listed:
    """A page of the list. Raises Problem."""
    marked = {"page": query_of(wanted, limit=USUAL)}
    parameters, cut = parameters_of(pool, wanted, now)
    parameters["limit"] = wanted.limit + 1
    at = {} if wanted.cursor is None else dict(zip(("at", "id"), decode_cursor(marked, wanted.cursor), strict=True))
    if at and wanted.to == "newer":
        rows = run(pool, "newer_executions", parameters | at, prepare=False)
        if len(rows) > wanted.limit:
            rows = rows[wanted.limit - 1 :: -1]
            return Listed(rows, _cursor(marked, rows, -1), _cursor(marked, rows, 0), cut)
        at = {}  # it is the first page
    rows = run(pool, "page_executions", parameters | at, prepare=False)
    more, rows = len(rows) > wanted.limit, rows[: wanted.limit]
    return Listed(rows, _cursor(marked, rows, -1) if more else None, _cursor(marked, rows, 0) if at else None, cut)


def find_ids(pool: Pool, ids: Sequence[UUID], limit: int) -> list[DictRow]:
    """Executions by their ids, as the list shows them."""
    parameters, _ = parameters_of(pool, Wanted(), datetime.now(UTC))
    return run(pool, "page_executions", {**parameters, "ids": list(ids), "limit": limit}, prepare=False)


def find_undecided(pool: Pool, limit: int) -> list[DictRow]:
    """Executions that need a decision: `id`, and `cut` as in Listed."""
    return run(pool, "undecided_executions", {"candidates": UNDECIDED, "limit": limit})


def parameters_of(pool: Pool, wanted: Wanted, now: datetime) -> tuple[dict[str, Any], bool]:
    """Those of page_executions.sql, without a position; whether more need a decision than they name. Raises Problem."""
    found = selected(pool, selection(wanted, now))
    if found["labels"] is not None:
        found["labels"] = encode_json(found["labels"])
    ids, cut = None, False
    if wanted.needs is not None:
        undecided = find_undecided(pool, UNDECIDED)
        ids, cut = [row["id"] for row in undecided], any(row["cut"] for row in undecided)
    text = None
    if wanted.q is not None:
        escaped = wanted.q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        text = f"%{escaped}%"
        if ids is None:
            found["since"] = found["since"] or now - TEXT_WINDOW
    return {**found, "ids": ids, "text": text, "at": None, "id": None}, cut


def _cursor(marked: Mapping[str, Any], rows: Sequence[DictRow], index: int) -> str | None:
    return encode_cursor(marked, rows[index]["created_at"], rows[index]["id"]) if rows else None
