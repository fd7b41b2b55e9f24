"""Says in a sentence what pydantic found wrong with a definition."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator.definition import Config, Retry, Step, Workflow
from orchestrator.describe import kind_of, shown
from orchestrator.plain import Finding, Location

_CANDIDATES = 500  # so that a suggestion stays cheap whatever the document
_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
}
_NAME_RULE = "a name is lower-case letters, digits and underscores, starting with a letter"


def explain(error: ValidationError) -> Iterator[Finding]:
    """One finding for everything pydantic found; a missing key is found at the object that lacks it."""
    for detail in error.errors(include_url=False):
        location: Location = detail["loc"]
        if detail["type"] == "string_unicode":
            continue  # find_impurities says where and why
        if detail["type"] == "missing":
            hint = "write {} if the tool takes nothing" if location[-1] == "params" else ""
            yield Finding(location[:-1], f"the key “{location[-1]}” is missing", hint)
        elif detail["type"] == "extra_forbidden":
            yield Finding(location, f"unknown key “{shown(location[-1])}”", _known_keys(location))
        else:
            yield Finding(
                location, *_sentence(location, detail["type"], detail["input"], detail.get("ctx", {}), detail["msg"])
            )


def _sentence(location: Location, kind: str, value: Any, context: dict[str, Any], message: str) -> tuple[str, str]:
    match kind:
        case "float_type" if isinstance(value, int) and not isinstance(value, bool):
            return "is too large a number", ""
        case _ if kind in _KINDS:
            return f"must be {_KINDS[kind]}, not {_described(value)}", ""
        case "null":
            return "must not be null", "leave the key out"
        case "greater_than_equal":
            return f"must be at least {context['ge']:,g}, not {shown(value)}", ""
        case "less_than_equal":
            return f"must be at most {context['le']:,}, not {shown(value)}", ""
        case "finite_number":
            return f"must be a finite number, not {shown(value)}", ""
        case "literal_error":
            return f"must be {context['expected']}, not “{shown(value)}”", suggest(
                str(value), _choices(context["expected"])
            )
        case "too_short":
            return "must hold at least one step", ""
        case "too_long":
            return f"must hold at most {context['max_length']:,} steps", "split the workflow"
        case "string_too_short":
            return "must not be empty", "leave the key out"
        case "string_too_long":
            return f"must be at most {context['max_length']} characters, not {len(value):,}", ""
        case "string_pattern_mismatch" if location[-1] == "tool":
            return _tool_sentence(value)
        case "string_pattern_mismatch":
            return f"“{shown(value)}” is not a name", _NAME_RULE
    return message[:1].lower() + message[1:], ""


def _tool_sentence(tool: str) -> tuple[str, str]:
    server, dot, name = tool.partition(".")
    if not dot:
        return f"“{shown(tool)}” has no dot", "a tool is written server.tool"
    if not server or not name:
        return (
            f"“{shown(tool)}” has nothing {'after' if server else 'before'} its first dot",
            "a tool is written server.tool",
        )
    return (
        f"“{shown(tool)}” is not a tool",
        "the server is lower-case letters, digits, _ and -, the tool letters, digits, and _ . - /; each starts with a letter",
    )


def _described(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {shown(value)}"
        case str():
            return f"the text “{shown(value)}”"
    return kind_of(value)


def _known_keys(location: Location) -> str:
    model: type[BaseModel] = Workflow
    match location[:-1]:
        case ("config",):
            model = Config
        case ("steps", _):
            model = Step
        case ("steps", _, "retry"):
            model = Retry
    keys = [field.alias or name for name, field in model.model_fields.items()]
    return suggest(str(location[-1]), keys) or f"known keys: {', '.join(keys)}"


def _choices(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").replace("'", "").split(", ")


def suggest(word: str, candidates: Iterable[str]) -> str:
    """“did you mean …?” for the candidate nearest to `word`, or nothing."""
    pool = sorted(candidates)[:_CANDIDATES]
    exact = [candidate for candidate in pool if candidate.lower() == word.lower().replace("_", "")]
    near = exact or difflib.get_close_matches(word[:100], pool, n=1)
    return f"did you mean “{shown(near[0])}”?" if near else ""
