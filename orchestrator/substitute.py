"""Puts values into params: `${path}` and `${expression}` inside any text of a JSON value.

A text that is exactly one `${…}` becomes the value itself, with its JSON type. Inside a longer text, texts stand as
they are and everything else as compact JSON. `$${` stands for a literal `${`; a dollar sign before a value is written
`${'$'}${price}`. Keys of objects are never touched. Nothing is substituted twice: what a value holds is data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from orchestrator.expressions import ExpressionError, as_text, compile_expression
from orchestrator.paths import EvaluationError, PathNotFound, parse_path, resolve
from orchestrator.tokens import LITERAL_HINT, Malformed, Placeholder, split_text

__all__ = ["EvaluationError", "ExpressionError", "PathNotFound", "Template", "compile_template", "compile_text"]

Scope = Mapping[str, Any]
_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Template:
    """A JSON value with its placeholders compiled. `roots`: the top-level names of the scope that it reads."""

    roots: frozenset[str]
    _render: Callable[[Scope], Any]

    def render(self, scope: Scope) -> Any:
        """The value with everything filled in: new lists and dicts, but values from the scope are not copied.

        Raises PathNotFound, or ExpressionError for an expression that has no value here.
        """
        return self._render(scope)


def compile_template(value: Any) -> Template:
    """Compiles any JSON value, nested at most 100 levels. Raises Malformed; its position counts in the text at fault."""
    if isinstance(value, str):
        return compile_text(value)
    if isinstance(value, Mapping):
        members = {key: compile_template(member) for key, member in value.items()}
        return Template(_roots(members.values()), lambda scope: {k: m.render(scope) for k, m in members.items()})
    if isinstance(value, list | tuple):
        items = [compile_template(item) for item in value]
        return Template(_roots(items), lambda scope: [item.render(scope) for item in items])
    return Template(_NOTHING, lambda _: value)


def compile_text(text: str) -> Template:
    """Compiles one text. Raises Malformed."""
    return _compile_text(text) if "${" in text else Template(_NOTHING, lambda _: text)


@lru_cache(maxsize=8192)
def _compile_text(text: str) -> Template:
    pieces = [_compile_piece(piece) for piece in split_text(text)]
    if len(pieces) == 1:
        return pieces[0]
    return Template(_roots(pieces), lambda scope: "".join([as_text(piece.render(scope)) for piece in pieces]))


def _compile_piece(piece: str | Placeholder) -> Template:
    if isinstance(piece, str):
        return Template(_NOTHING, lambda _: piece)
    if not piece.inner.strip():
        raise Malformed("${} names nothing", piece.start - 2, LITERAL_HINT)
    path = parse_path(piece.inner)
    if path is not None:
        return Template(frozenset({path.root}), lambda scope: resolve(path, scope))
    expression = compile_expression(piece.inner, piece.start)
    return Template(expression.roots, expression.evaluate)


def _roots(templates: Any) -> frozenset[str]:
    return _NOTHING.union(*[template.roots for template in templates])
