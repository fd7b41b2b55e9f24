"""A step that calls `builtin.transform`: is its expression one, and is everything that it reads handed to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.explain import suggest
from orchestrator.expressions import compile_expression
from orchestrator.plain import Finding, Location
from orchestrator.tokens import Malformed


def transform_findings(index: int, params: dict[str, Any]) -> Iterator[Finding]:
    """What the call would say of an expression that is written out."""
    text, given = params.get("expression"), params.get("with", {})
    if not isinstance(text, str) or not text or "${" in text:
        return
    location: Location = ("steps", index, "params", "expression")
    try:
        expression = compile_expression(text)
        expression.check()
    except Malformed as error:
        yield Finding(location, f"{error.reason}, at character {error.position + 1}")
        return
    for name in sorted(expression.roots - given.keys()) if isinstance(given, dict) else ():
        hint = suggest(name, given) or f"write with: {{{name}: ${{…}}}}"
        yield Finding(location, f"“{name}” is not among the values under `with`", hint)
