"""Run…: a form for a workflow's input, what a run would call, and the start itself.

The form carries an idempotency key, so that sending it twice starts one execution. What was typed stays when it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from control_center.api import shapes
from control_center.api.auth import Principal
from control_center.api.problems import PROBLEMS, Problem, problem_of
from control_center.api.start_executions import begin_execution
from control_center.dashboard.ask_input import Typed, fields_of, names_read, read_input, takes_more
from control_center.dashboard.pages import Form, Reader, go, must, page, why_not
from control_center.find_workflow import find_workflow
from orchestrator.called_tools import called_tools
from orchestrator.check_input import KEY
from persistence.errors import Disabled, InvalidInput, NotFound
from persistence.json_value import decode_json, encode_json
from persistence.pool import Pool

router = APIRouter(prefix="/ui/workflows", include_in_schema=False)
LONGEST_KEY = 100


@router.get("/{name}/run")
def show_form(request: Request, reader: Reader, name: str) -> Response:
    return _answer(request, reader, find_workflow(request.app.state.read_pool, name), {})


@router.post("/{name}/run")
def start_run(request: Request, reader: Reader, name: str, given: Form) -> Response:
    must(reader, "submitter")
    row = find_workflow(request.app.state.pool, name)
    schema = decode_json(row["definition"]).get(KEY)
    typed = read_input(schema, given)
    faults = dict(typed.faults)
    wish = _wish(name, typed, given, faults)
    if wish is None:
        return _answer(request, reader, row, given, faults, status=422)
    if given.get("do") == "preview":
        return _answer(request, reader, row, given, preview=True)
    if given.get("version", str(row["version"])) != str(row["version"]):
        changed = f"Version {row['version']} was registered meanwhile: read what it asks for, and run it then."
        return _answer(request, reader, row, given, {"": changed}, status=409)
    try:
        started, _ = begin_execution(request, wish, reader, _key(given))
    except (Problem, NotFound, InvalidInput, Disabled) as error:
        problem = problem_of(error)
        # a key that has started something else is used up
        kept = {**given, "key": ""} if problem.slug == "idempotency-mismatch" else given
        return _answer(request, reader, row, kept, {"": problem.detail}, status=PROBLEMS[problem.slug][0])
    return go(request, f"/ui/executions/{started.execution_id}")


def _wish(name: str, typed: Typed, given: Mapping[str, str], faults: dict[str, str]) -> shapes.Submission | None:
    """None if there are faults, which it adds to."""
    labels = _labels(given.get("labels", ""), faults)
    try:
        encode_json(typed.value, what="the input")
        wish = shapes.Submission(
            workflow=name, input=typed.value, title=given.get("title", "").strip() or None, labels=labels
        )
    except InvalidInput as error:
        faults.setdefault("", str(error))
        return None
    except ValidationError as error:
        for fault in error.errors():
            faults.setdefault(str(fault["loc"][0]), fault["msg"])
        return None
    return None if faults else wish


def _labels(text: str, faults: dict[str, str]) -> dict[str, str]:
    labels = {}
    for line in filter(str.strip, text.splitlines()):
        label, separator, value = line.partition(":")
        if not separator or not label.strip():
            faults["labels"] = f"a label is written NAME:VALUE, one on a line, unlike {line.strip()[:50]!r}"
        labels[label.strip()] = value.strip()
    return labels


def _key(given: Mapping[str, str]) -> str:
    return given.get("key", "")[:LONGEST_KEY] or uuid4().hex


def _answer(
    request: Request,
    reader: Principal,
    row: Mapping[str, Any],
    given: Mapping[str, str],
    faults: Mapping[str, str] | None = None,
    *,
    preview: bool = False,
    status: int = 200,
) -> Response:
    pool: Pool = request.app.state.read_pool
    definition = decode_json(row["definition"])
    schema = definition.get(KEY)
    fields = fields_of(schema)
    more = takes_more(schema, fields)
    places = {"title", "labels", *(one.key for one in fields), *(["input"] if more else [])}
    faults = faults or {}
    if lost := [told for key, told in faults.items() if key not in places]:
        faults = {**faults, "": "; ".join(lost)}
    may_not = why_not(reader, "submitter")
    if may_not is None and not row["enabled"]:
        may_not = f"{row['name']} is disabled: nothing of it is started"
    return page(
        request,
        "run.html",
        status,
        reader=reader,
        row=row,
        fields=fields,
        more=more,
        reads=names_read(definition) if schema is None else [],
        typed=given,
        faults=faults,
        key=_key(given),
        calls=called_tools(pool, definition, range(len(definition["steps"]))) if preview else None,
        why_not=may_not,
    )
