"""Executions as a file: the rows of a filter or those that were ticked, without payloads, as JSON Lines or CSV.

Pages are read one after the other while they are sent, so that nothing is held and nothing runs long.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from control_center.dashboard.filter_executions import Wanted, parameters_of
from control_center.dashboard.pages import HEADERS, Reader
from control_center.progress import dollars, iso
from persistence.pool import Pool, run
from workers.secrets import redact

router = APIRouter(prefix="/ui", include_in_schema=False)
AT_MOST = 10_000
PAGE = 500
COLUMNS = (
    "id",
    "status",
    "title",
    "workflow",
    "triggeredBy",
    "createdAt",
    "startedAt",
    "completedAt",
    "costUsd",
    "error",
    "labels",
)
CUT = f"only the first {AT_MOST:,} executions: narrow the filter for the others"
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
Format = Literal["jsonl", "csv"]
TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
Row = Mapping[str, Any]


class Exported(Wanted):
    """The list's query, and in which shape."""

    format: Format = "jsonl"


@router.get("/export")
def export_filtered(request: Request, _reader: Reader, wanted: Annotated[Exported, Query()]) -> Response:
    pool: Pool = request.app.state.read_pool
    parameters, _ = parameters_of(pool, wanted, datetime.now(UTC))
    return _file(_pages(pool, parameters), wanted.format)


def export(pool: Pool, ids: Sequence[UUID], shape: Format) -> Response:
    """The executions of these ids."""
    parameters, _ = parameters_of(pool, Wanted(), datetime.now(UTC))
    return _file(_pages(pool, {**parameters, "ids": list(ids)}), shape)


def _pages(pool: Pool, parameters: Mapping[str, Any]) -> Iterator[Sequence[Row]]:
    at: dict[str, Any] = {}
    while rows := run(pool, "page_executions", {**parameters, **at, "limit": PAGE}, prepare=False):
        yield rows
        at = {"at": rows[-1]["created_at"], "id": rows[-1]["id"]}
        if len(rows) < PAGE:
            return


def _file(pages: Iterable[Sequence[Row]], shape: Format) -> Response:
    rows = (row for page in pages for row in page)
    first = list(islice(rows, 1))  # a query that is too broad is a page that says so, not half a file
    headers = HEADERS | {"Content-Disposition": f'attachment; filename="executions.{shape}"'}
    write = _write_lines if shape == "jsonl" else _write_table
    return StreamingResponse(write(chain(first, rows)), headers=headers, media_type=TYPES[shape])


def _write_lines(rows: Iterator[Row]) -> Iterator[str]:
    def line(value: Mapping[str, Any]) -> str:
        return json.dumps(value, ensure_ascii=False) + "\n"

    return _limited(rows, lambda row: line(_shown(row)), lambda: line({"truncated": CUT}))


def _write_table(rows: Iterator[Row]) -> Iterator[str]:
    yield _cells(COLUMNS)
    yield from _limited(rows, lambda row: _cells(_flat(_shown(row)).values()), lambda: _cells([f"# {CUT}"]))


def _limited(rows: Iterator[Row], write: Callable[[Row], str], end: Callable[[], str]) -> Iterator[str]:
    for number, row in enumerate(rows):
        if number == AT_MOST:
            yield end()
            return
        yield write(row)


def _shown(row: Row) -> dict[str, Any]:
    times = [iso(row[name]) for name in ("created_at", "started_at", "completed_at")]
    same = [row["status"], row["title"], row["workflow_name"], row["triggered_by"]]
    values = [str(row["id"]), *same, *times, dollars(row["cost_nanos"]), row["error"], redact(row["labels"])]
    return dict(zip(COLUMNS, values, strict=True))


def _flat(shown: dict[str, Any]) -> dict[str, Any]:
    return shown | {"labels": json.dumps(shown["labels"], ensure_ascii=False) if shown["labels"] else ""}


def _cells(values: Iterable[Any]) -> str:
    """A line of CSV in which no cell begins like a formula."""
    written = io.StringIO()
    texts = ["" if value is None else str(value) for value in values]
    csv.writer(written).writerow([f"'{text}" if FORMULA.match(text) else text for text in texts])
    return written.getvalue()
