"""What an operator does with an execution: a form that says first what it would do, and then does it.

The same controls, checks and audit rows as over HTTP. What was typed stays when it is refused.

Invariant: nothing is done that was not shown. The form carries a fingerprint of the preview; where the deed would be another,
because something else was chosen or the execution moved on, it is shown again instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from control_center.api.auth import Principal
from control_center.api.control_executions import carry_out
from control_center.api.problems import PROBLEMS, problem_of
from control_center.dashboard.pages import Form, Reader, go, must, page
from control_center.dashboard.show_execution import LABELS, offer, read_execution
from control_center.dashboard.words import PREVIEW, json_text
from control_center.read_control import read_control
from orchestrator.control import Controller, Preview
from orchestrator.judge_control import ACTIONS, DECISIONS
from persistence.errors import Disabled, InvalidDefinition, InvalidInput, NotFound, Refused
from persistence.executions import require_execution
from persistence.json_value import decode_json
from persistence.pool import Pool, run
from workers.secrets import BLOT

router = APIRouter(prefix="/ui/executions", include_in_schema=False)
STEP_NEEDED = frozenset({"rerun", "skip", "set-output", "decide", "replay"})
STEP_TAKEN = STEP_NEEDED | {"retry", "fork"}
EDITED: Mapping[str, tuple[str, ...]] = {
    "retry": ("input",),
    "rerun": ("input",),
    "replay": ("input",),
    "set-output": ("output",),
    "decide": ("output",),
    "fork": ("input", "variables"),
}
TELLS = {
    "pause": "Nothing more of it begins until it is resumed; what runs may end.",
    "resume": "It goes on where it was paused.",
    "cancel": "It ends now; workers are told to end its calls.",
    "retry": "It goes on with all results that there are; what failed is called again.",
    "rerun": "The step runs again, and all that come after it. Results that are replaced stay in the history.",
    "skip": "The step is not called; those after it go on without it.",
    "set-output": "The step takes this output instead of calling its tool.",
    "decide": "Nobody knows whether the call took place. Say what is to become of it.",
    "fork": "A new execution begins before the step, with the results before it; this one stays as it is.",
    "replay": "One step runs alone, as a new execution, with the variables as they are.",
}
SHOWN_STEPS = 300  # names to choose from; of more, the step is typed


@router.get("/{execution_id}/act/{action}")
def ask(
    request: Request,
    reader: Reader,
    execution_id: UUID,
    action: str,
    step: Annotated[str | None, Query(max_length=255)] = None,
) -> Response:
    """What it would do, before anything is done."""
    _known(action, reader)
    given = {} if step is None else {"step": step}
    return _answer(request, reader, execution_id, action, given, confirmed=False)


@router.post("/{execution_id}/act/{action}")
def act(request: Request, reader: Reader, execution_id: UUID, action: str, given: Form) -> Response:
    _known(action, reader)
    return _answer(request, reader, execution_id, action, given, confirmed=given.get("do") == "confirm")


def _known(action: str, reader: Principal) -> None:
    if action not in ACTIONS:
        raise NotFound(f"there is no action {action[:50]}")
    must(reader, "operator")


def _answer(
    request: Request, reader: Principal, execution_id: UUID, action: str, typed: Mapping[str, str], *, confirmed: bool
) -> Response:
    pool: Pool = request.app.state.pool
    controller: Controller = request.app.state.controller
    execution, steps = read_execution(pool, execution_id)
    chosen = typed["step"].strip() or None if "step" in typed else _usual_step(action, steps)
    present = _present(pool, execution_id, action, chosen, steps)
    fields = {name: text if _untouched(name, typed) else typed[name] for name, text in present.items()}
    preview: Preview | None = None
    shown, other = typed.get("shown", ""), False
    fault, status, refused = None, 200, False
    try:
        said = _said(action, typed, chosen, fields, present)
        preview = controller.preview(execution_id, read_control(pool, execution_id, action, said, reader.name))
        shown = _fingerprint(preview, said)
        other = confirmed and typed.get("shown") != shown
        if confirmed and not other:
            done = carry_out(request, reader, execution_id, action, said)
            return go(request, f"/ui/executions/{done.execution_id}")
    except (Refused, InvalidInput, InvalidDefinition, NotFound, Disabled) as error:
        fault, preview = problem_of(error), None
        status = PROBLEMS[fault.slug][0]
        if isinstance(error, Refused):  # perhaps somebody else was quicker: as it stands now
            execution, steps = read_execution(pool, execution_id)
            refused = action not in error.allowed
    return page(
        request,
        "act.html",
        409 if other else status if confirmed or refused else 200,
        reader=reader,
        execution=execution,
        action=action,
        label=LABELS[action].removesuffix("…"),
        tells=TELLS[action],
        **_step_field(action, chosen, steps),
        decisions=DECISIONS if action == "decide" else (),
        typed=typed,
        fields=fields,
        marks={name: _mark(text) for name, text in present.items()},
        shown=shown,
        other=other,
        hidden=[name for name, text in present.items() if BLOT in text],
        preview=preview,
        fault=fault,
        refused=refused,
        offered=[one for one in offer(execution, steps, reader) if one.why_not is None],
    )


def _step_field(action: str, chosen: str | None, steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where the form asks for a step: by its name, which is unique where a definition is kept."""
    taken = action in STEP_TAKEN
    return {
        "takes_step": taken,
        "needs_step": action in STEP_NEEDED,
        "chosen": chosen,
        "many": len(steps) > SHOWN_STEPS,
        "steps": [
            (step["step_name"], f"{step['step_index']} {step['step_name']} ({step['status']})")
            for step in (steps[:SHOWN_STEPS] if taken else ())
        ],
    }


def _usual_step(action: str, steps: Sequence[Mapping[str, Any]]) -> str | None:
    """The step that a person means most likely: the first that failed."""
    failed = [step for step in steps if step["status"] == "failed"]
    undecided = [step for step in failed if step["error_kind"] == "outcome_unknown"]
    likely = undecided if undecided and action == "decide" else failed or (steps if action != "fork" else [])
    if not likely or action not in STEP_NEEDED | {"fork"}:
        return None
    return str(likely[0]["step_name"])


def _present(
    pool: Pool, execution_id: UUID, action: str, chosen: str | None, steps: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """The texts that the form begins with; what is left as it is, is not sent."""
    values: dict[str, Any] = {}
    if action == "fork":
        whole = require_execution(pool, execution_id)
        values = {"input": whole["input"], "variables": (whole["context"] or {}).get("variables") or {}}
    elif action in EDITED:
        found = [one for one in steps if chosen in (one["step_name"], str(one["step_index"]))]
        rows = run(pool, "get_step", {"execution_id": execution_id, "index": found[0]["step_index"]}) if found else []
        name = EDITED[action][0]
        values = {name: rows[0][name] if rows else None}
    texts = {name: json_text(value) if value is not None else "" for name, value in values.items()}
    return {name: text if len(text) <= PREVIEW else "" for name, text in texts.items()}


def _said(
    action: str, typed: Mapping[str, str], chosen: str | None, fields: Mapping[str, str], present: Mapping[str, str]
) -> dict[str, Any]:
    """What the form says, as read_control takes it. Raises InvalidInput."""
    said: dict[str, Any] = {"reason": (typed.get("reason") or "").strip()[:2000] or None}
    if action in STEP_TAKEN:
        said["step"] = chosen
    if action == "decide":
        said["decision"] = typed.get("decision", "retry")
    if action == "fork" and typed.get("workflow"):
        said["workflow"] = typed["workflow"]
    for name in EDITED.get(action, ()):
        if name == "output":
            if action == "set-output" or said["decision"] == "done":
                said["output"] = _value(name, fields[name] or "null")
                _refuse_hidden(name, said["output"])
            continue
        if not fields[name].strip() or _same(fields[name], present[name]):
            continue
        value = _value(name, fields[name])
        if not isinstance(value, dict):
            raise InvalidInput(f"{name} must be a JSON object, {{…}}")
        if name == "variables":
            before = decode_json(present[name]) if present[name] else {}
            value = {key: one for key, one in value.items() if key not in before or before[key] != one}
        _refuse_hidden(name, value)
        said[name] = value
    return said


def _fingerprint(preview: Preview, said: Mapping[str, Any]) -> str:
    """Of what the deed does. While an execution runs its steps end, and less is called than was shown: no other deed."""
    told: list[Any] = [said.get(name) for name in ("step", "decision", "workflow")]
    told += [preview.status, preview.replaced]
    if preview.status != "running":
        told += [preview.reused, preview.calls]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _mark(text: str) -> str:
    """By which a text that comes back is known to be as it was shown."""
    return hashlib.sha256(text.replace("\r\n", "\n").strip().encode()).hexdigest()[:16]


def _untouched(name: str, typed: Mapping[str, str]) -> bool:
    """Left as it was shown, for whichever step that was."""
    return name not in typed or typed.get(f"was-{name}") == _mark(typed[name])


def _same(text: str, other: str) -> bool:
    return text.replace("\r\n", "\n").strip() == other.strip()


def _value(name: str, text: str) -> Any:
    try:
        return decode_json(text)
    except ValueError as error:
        raise InvalidInput(f"{name} is not JSON: {error}") from None


def _refuse_hidden(name: str, value: Any) -> None:
    """What stands for a secret must not be sent in its place."""
    if BLOT in repr(value):
        raise InvalidInput(f"{name} holds {BLOT}, which stands for what may not be shown: write what is to be sent")
