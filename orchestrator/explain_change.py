"""The first divergence of two executions as a sentence, and a change as a clause. Pure; long values are cut."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.compare import Divergence, What
from orchestrator.difference import Change

LONGEST = 80  # characters of a value
PLACES: dict[What, str] = {
    "definition": "in the definition",
    "input": "in the input",
    "context": "in the initial context",
    "tool_schema": "in what its tool says of itself",
    "params": "in the params",
    "status": "in how it ended",
    "error": "in the error",
    "retries": "in the attempts it took",
    "output": "in the output",
}


def explain_divergence(first: Divergence | None) -> str:
    """One line."""
    if first is None:
        return "No divergence: both executions did the same."
    step = named(first.step, first.iteration)
    match first.what:
        case "missing":
            return f"First divergence: B has no step {step}."
        case "extra":
            return f"First divergence: only B has a step {step}."
        case "order":
            places = f"{first.change.origin} in A and {first.change.path} in B"
            return f"First divergence: step {step} is at another place, {places}."
    before = f"at step {step}, {PLACES[first.what]}" if step else _of_whole(first.what)
    return f"First divergence {before}: {explain_change(first.change)}."


def named(step: str | None, iteration: int) -> str:
    """A step among those of its name, counted from 1."""
    return f"{step} (number {iteration + 1})" if iteration else step or ""


def _of_whole(what: What) -> str:
    return "only in how the executions ended" if what in ("status", "error") else PLACES[what]


def explain_change(change: Change) -> str:
    """Where, and from what to what."""
    place = change.path or "it"
    before, after = short(change.before), short(change.after)
    match change.kind:
        case "added":
            return f"{place} was added, {after}"
        case "removed":
            return f"{place} was removed, {before}"
        case "moved":
            return f"{change.origin} moved to {place}, {after}"
        case "type_changed":
            return f"{place} was {before} and is {after}, of another type"
    return f"{place} was {before} and is {after}"


def short(value: Any) -> str:
    """A value as JSON on one line."""
    if isinstance(value, dict) and value.get("truncated") is True and "beginning" in value:
        return f"{value['beginning'][:LONGEST]}… ({value['size']} characters)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
