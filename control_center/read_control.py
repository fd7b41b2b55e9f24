"""What somebody asks of an execution, as the controller takes it: the same over HTTP and from the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from control_center.find_workflow import find_workflow
from control_center.list_tools import tool_schemas
from orchestrator.control import UNSET, Wish
from orchestrator.definition import Workflow
from orchestrator.judge_control import DECISIONS
from orchestrator.validate import validate
from persistence.errors import Disabled, InvalidInput
from persistence.executions import missing
from persistence.pool import Pool, run

TAKEN_BY: Mapping[str, frozenset[str]] = {
    "input": frozenset({"retry", "rerun", "fork", "replay"}),
    "output": frozenset({"set-output", "decide"}),
    "variables": frozenset({"fork"}),
    "workflow": frozenset({"fork"}),
    "definition": frozenset({"fork"}),
}
"""What a control beside these must not come with: a wish that is not heard is worse than one that is refused."""

FORMER = {"fail": ("decide", "fail")}
"""Actions by the word they had before: the action and the decision that it is."""


def read_control(pool: Pool, execution_id: UUID, action: str, given: Mapping[str, Any], actor: str) -> Wish:
    """`given`: what was said, of reason, step, input, output, variables, workflow (a name), definition, decision. Raises
    InvalidInput, InvalidDefinition, NotFound and Disabled."""
    said = {name: value for name, value in given.items() if value is not None or name == "output"}
    if action in FORMER and "decision" not in said:
        action, said["decision"] = FORMER[action]
    _refuse_indecision(action, said)
    for name, takers in TAKEN_BY.items():
        if name in said and action not in takers:
            raise InvalidInput(f"`{name}` is for {', '.join(sorted(takers))}, not for {action}")
    workflow, workflow_id = _workflow(pool, execution_id, said)
    return Wish(
        action=action,
        actor=actor,
        reason=said.get("reason"),
        step=said.get("step"),
        input=said.get("input", UNSET),
        output=said.get("output", UNSET),
        variables=said.get("variables", {}),
        workflow=workflow,
        workflow_id=workflow_id,
        decision=said.get("decision"),
    )


def _refuse_indecision(action: str, said: Mapping[str, Any]) -> None:
    decision = said.get("decision")
    if action != "decide":
        if decision is not None:
            raise InvalidInput(f"`decision` is for decide, not for {action}")
        return
    if decision not in DECISIONS:
        raise InvalidInput(f"decide needs a decision: {', '.join(DECISIONS)}")
    if "step" not in said:
        raise InvalidInput("decide needs a step")
    if (decision == "done") != ("output" in said):
        raise InvalidInput("`done` needs an output, what the tool answered or null; no other decision takes one")


def _workflow(pool: Pool, execution_id: UUID, said: Mapping[str, Any]) -> tuple[Workflow | None, UUID | None]:
    """A fork's other definition, and the registered workflow that it is of."""
    if "workflow" in said and "definition" in said:
        raise InvalidInput("give `workflow` (a name) or `definition`, and not both")
    if "workflow" in said:
        row = find_workflow(pool, said["workflow"])
        if not row["enabled"]:
            raise Disabled(f"{said['workflow']} is disabled: nothing was started")
        return Workflow.model_validate(json.loads(row["definition"])), row["id"]
    if "definition" not in said:
        return None, None
    rows = run(pool, "execution_payload", {"id": execution_id})
    if not rows:
        raise missing(pool, str(execution_id))
    context = rows[0]["context"] or {}
    keys = {"input", *context, *(context.get("variables") or {}), *said.get("variables", {})}
    return validate(said["definition"], context_keys=keys, tools=tool_schemas(pool)), None
