"""What a control would do to an execution as it stands: pure, so that a preview and the deed are judged alike.

A control names the steps whose results go (and are kept in the history), and what a person wants of their next attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from persistence.errors import NotFound, Refused

Action = Literal["pause", "resume", "cancel", "retry", "rerun", "skip", "set-output", "decide", "fork", "replay"]

ACTIONS: Mapping[str, frozenset[str]] = {
    "pause": frozenset({"running"}),
    "resume": frozenset({"paused"}),
    "cancel": frozenset({"running", "paused"}),
    "retry": frozenset({"failed", "cancelled"}),
    "rerun": frozenset({"completed", "failed", "cancelled", "paused"}),
    "skip": frozenset({"running", "paused", "completed", "failed", "cancelled"}),
    "set-output": frozenset({"running", "paused", "completed", "failed", "cancelled"}),
    "decide": frozenset({"paused", "completed", "failed", "cancelled"}),
    "fork": frozenset({"running", "paused", "completed", "failed", "cancelled"}),
    "replay": frozenset({"running", "paused", "completed", "failed", "cancelled"}),
}
"""By the execution's status. Those from `retry` to `decide` change the execution itself, the last two make a new one."""

DECISIONS = ("retry", "done", "skip", "fail")
"""What a person may say of a step whose outcome nobody knows: call it again, take it as done, do without it, it failed."""

ENDED = frozenset({"completed", "failed", "skipped"})


@dataclass(frozen=True, slots=True)
class StepFacts:
    """A step without its payloads. `successors`: indexes."""

    id: UUID
    name: str
    index: int
    status: str
    tool: str
    assign: str | None
    successors: tuple[int, ...]
    error_kind: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """An execution as a control looks at it. `steps` by index."""

    id: UUID
    status: str
    definition_hash: str | None
    workflow_id: UUID | None
    continue_on_error: bool
    definition: Mapping[str, Any]
    steps: Sequence[StepFacts]


@dataclass(frozen=True, slots=True)
class Effect:
    """What becomes of the execution's steps, by index: `again` run again, `overrides` say how, `called` are the steps whose
    tools will be called unless their conditions are false, `reused` keep their results."""

    again: tuple[int, ...] = ()
    overrides: Mapping[int, dict[str, Any]] = field(default_factory=dict)
    called: tuple[int, ...] = ()
    reused: tuple[int, ...] = ()


def allowed_actions(status: str, *, ours: bool = True) -> list[str]:
    """The actions that an execution of this status takes. `ours`: the fleet runs it, it has a definition."""
    return [action for action, statuses in ACTIONS.items() if ours and status in statuses]


def refuse_unless_allowed(facts: Facts, action: str) -> None:
    """Raises Refused, saying how the execution stands and what it takes."""
    if facts.definition_hash is None:
        raise Refused(f"execution {facts.id} is kept by its caller, who alone moves it", facts.status)
    if facts.status not in ACTIONS[action]:
        allowed = allowed_actions(facts.status)
        takes = f"it takes {', '.join(allowed)}" if allowed else "it takes no control"
        raise Refused(f"an execution that is {facts.status} cannot {_spoken(action)}; {takes}", facts.status, allowed)


def find_step(facts: Facts, named: str) -> StepFacts:
    """A step by its name, or by its index as digits. Raises NotFound."""
    found = [step for step in facts.steps if step.name == named]
    if not found and named.isascii() and named.isdecimal():
        found = [step for step in facts.steps if step.index == int(named)]
    if not found:
        raise NotFound(f"execution {facts.id} has no step {named!r}")
    return found[0]


def refuse_unless_undecided(facts: Facts, step: StepFacts) -> None:
    """Whatever else has failed has failed. Raises Refused."""
    if step.error_kind != "outcome_unknown" or step.status != "failed":
        told = "only a step that failed as outcome_unknown is for a person to decide"
        raise _refused(facts, f"{told}, and {step.name} is {step.error_kind or step.status}")


def judge(facts: Facts, action: str, step: StepFacts | None, override: dict[str, Any] | None) -> Effect:
    """The effect of a control that changes steps. Raises Refused."""
    refuse_unless_allowed(facts, action)
    if action in ("pause", "cancel"):
        return Effect()
    if action == "resume":
        return _effect(facts, (), {})
    failed = [] if facts.continue_on_error else [one.index for one in facts.steps if one.status == "failed"]
    if step is None:  # retry
        return _effect(facts, failed, {})
    again = {step.index}
    if action in ("rerun", "retry", "decide") or step.status in ENDED:
        again |= downstream(facts, step.index)
    if facts.status in ("failed", "cancelled"):
        again |= set(failed)
    if running := [facts.steps[index].name for index in sorted(again) if facts.steps[index].status == "running"]:
        raise _refused(facts, f"{', '.join(running)} runs now; pause the execution and wait for its end")
    if facts.status == "running" and step.status != "pending":
        raise _refused(facts, f"step {step.name} is {step.status}; while the execution runs only pending steps change")
    overrides = {} if override is None else {step.index: override}
    return _effect(facts, again, overrides)


def downstream(facts: Facts, index: int) -> set[int]:
    """The steps that wait for this one, directly or not."""
    found: set[int] = set()
    ahead = [*facts.steps[index].successors]
    while ahead:
        following = ahead.pop()
        if following not in found:
            found.add(following)
            ahead += facts.steps[following].successors
    return found


def _effect(facts: Facts, again: Iterable[int], overrides: Mapping[int, dict[str, Any]]) -> Effect:
    chosen = set(again)
    undecided = {index for index, override in overrides.items() if "input" not in override}
    coming = chosen | {step.index for step in facts.steps if step.status in ("pending", "running")}
    reused = [
        step.index for step in facts.steps if step.index not in coming and step.status in ("completed", "skipped")
    ]
    return Effect(tuple(sorted(chosen)), overrides, tuple(sorted(coming - undecided)), tuple(reused))


def _refused(facts: Facts, why: str) -> Refused:
    return Refused(why, facts.status, allowed_actions(facts.status))


def _spoken(action: str) -> str:
    words = {"set-output": "have an output set", "skip": "have a step skipped", "decide": "have a step decided"}
    return words.get(action, f"be {action}d" if action.endswith("e") else f"be {PAST.get(action, action + 'ed')}")


PAST = {"cancel": "cancelled", "retry": "retried", "rerun": "rerun", "replay": "replayed"}
