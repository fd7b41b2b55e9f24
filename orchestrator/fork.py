"""What a fork or a replay begins with: a definition, a context, and the steps whose results are taken over. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.definition import Workflow
from orchestrator.judge_control import Facts, StepFacts, allowed_actions, downstream, find_step
from orchestrator.validate import validate
from persistence.errors import InvalidInput, Refused

TAKEN_OVER = frozenset({"completed", "skipped"})


@dataclass(frozen=True, slots=True)
class Fork:
    """A new execution. reused: [{"index", "source", "output"?}], as fork_execution takes them; called: indexes of the steps
    that run; input: None for the source's."""

    workflow: Workflow
    context: dict[str, Any]
    reused: tuple[dict[str, Any], ...]
    called: tuple[int, ...]
    input: dict[str, Any] | None = None


def plan_fork(
    facts: Facts,
    begin: str | None,
    context: Mapping[str, Any],
    variables: Mapping[str, Any],
    workflow: Workflow | None,
) -> Fork:
    """From the step `begin` on (None: from the start). `context`: the source's, with all variables; `variables` replace what
    was assigned. Raises Refused if the definition lacks a step that would be needed."""
    chosen = workflow if workflow is not None else Workflow.model_validate(facts.definition)
    names = [step.name for step in chosen.steps]
    if len(set(names)) != len(names) and workflow is not None:
        raise InvalidInput("steps of one name cannot be matched with those of another definition")
    first = _place(facts, begin, names, other=workflow is not None)
    ended = {step.name: step for step in facts.steps if step.status in TAKEN_OVER}
    reused: list[dict[str, Any]] = []
    for index in range(first):
        step = facts.steps[index] if workflow is None else ended.get(names[index])
        if step is None or step.status not in TAKEN_OVER:
            raise _refused(
                facts,
                f"step {names[index]} comes before {names[first]}, and {facts.id} has no result of it to take over",
            )
        entry: dict[str, Any] = {"index": index, "source": str(step.id)}
        if (assign := chosen.steps[index].assign) in variables and assign is not None:
            entry["output"] = variables[assign]
        reused.append(entry)
    assigned = {step.assign for step in facts.steps if step.assign is not None}
    taken_over = {chosen.steps[index].assign for index in range(first)}
    kept = {name: value for name, value in _variables(context).items() if name not in assigned}
    kept |= {name: value for name, value in variables.items() if name not in taken_over}
    return Fork(chosen, {**_plain(context), "variables": kept}, tuple(reused), tuple(range(first, len(names))))


def plan_replay(facts: Facts, step: StepFacts, context: Mapping[str, Any], params: Mapping[str, Any] | None) -> Fork:
    """One step alone, with the variables as they are. `params`: as they are to be sent, instead of the definition's."""
    if step.status not in ("completed", "failed", "skipped"):
        raise _refused(facts, f"step {step.name} is {step.status}: there is nothing to replay yet")
    definition = {name: value for name, value in facts.definition.items() if name != "config"}
    alone = {
        name: value
        for name, value in facts.definition["steps"][step.index].items()
        if name not in ("if", "condition", "needs")
    }
    if params is not None:
        if not isinstance(params, Mapping):
            raise InvalidInput("params are an object")
        alone["params"] = _literal(params)
    behind = downstream(facts, step.index) | {step.index}
    later = {facts.steps[index].assign for index in behind}
    variables = {name: value for name, value in _variables(context).items() if name not in later}
    made = validate({**definition, "steps": [alone]})
    return Fork(made, {**_plain(context), "variables": variables}, (), (0,))


def _place(facts: Facts, begin: str | None, names: list[str], *, other: bool) -> int:
    if begin is None:
        return 0
    if not other:
        return find_step(facts, begin).index
    if begin not in names:
        raise _refused(facts, f"the definition has no step {begin!r}")
    return names.index(begin)


def _variables(context: Mapping[str, Any]) -> Mapping[str, Any]:
    found = context.get("variables") or {}
    return found if isinstance(found, Mapping) else {}


def _plain(context: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in context.items() if name not in ("input", "variables")}


def _literal(value: Any) -> Any:
    """The value as a template that renders to it."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, Mapping):
        return {name: _literal(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return value


def _refused(facts: Facts, why: str) -> Refused:
    return Refused(why, facts.status, allowed_actions(facts.status))
