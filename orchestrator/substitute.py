"""Puts values into params: `${path}` and `${expression}` inside any text of a JSON value.

A text that is exactly one `${…}` becomes the value itself, with its JSON type. Inside a longer text, texts stand as
they are and everything else as compact JSON. {"$secret": NAME}, where it is written in the definition, becomes a
SecretReference; what looks like one in a value is data. `$${` stands for a literal `${`; a dollar sign before a value is
written `${'$'}${price}`. Keys of objects are never touched. Nothing is substituted twice: what a value holds is data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from orchestrator.expressions import Expression, ExpressionError, as_text, compile_expression
from orchestrator.paths import EvaluationError, PathNotFound, parse_path, resolve
from orchestrator.text_cache import cached_by_text
from orchestrator.tokens import LITERAL_HINT, Malformed, Placeholder, split_text

__all__ = [
    "EvaluationError",
    "ExpressionError",
    "PathNotFound",
    "SecretReference",
    "Template",
    "compile_template",
    "compile_text",
    "with_references",
]

MAX_TEXT = 16 * 1024 * 1024  # characters
SECRET = "$secret"  # noqa: S105  # a key
Scope = Mapping[str, Any]
_NOTHING: frozenset[str] = frozenset()


class SecretReference(dict[str, str]):
    """{"$secret": NAME} as whoever wrote the definition wrote it. Prevents: a tool's answer or an input that names one."""


@dataclass(frozen=True, slots=True)
class Template:
    """A JSON value with its placeholders compiled. `roots`: the top-level names of the scope that it reads."""

    roots: frozenset[str]
    _render: Callable[[Scope], Any]
    _expressions: tuple[Expression, ...] = ()

    def check(self) -> None:
        """Compiles its expressions to the end. Raises Malformed."""
        for expression in self._expressions:
            expression.check()

    def render(self, scope: Scope) -> Any:
        """The value with everything filled in: new lists and dicts, but values from the scope are not copied.

        Raises PathNotFound, or ExpressionError for an expression that has no value here.
        """
        return self._render(scope)


def compile_template(value: Any) -> Template:
    """Compiles any JSON value, at most 100 levels deep. Raises Malformed; its position counts in the text at fault."""
    if isinstance(value, str):
        return compile_text(value)
    if isinstance(value, Mapping):
        if _names_a_secret(value):
            return Template(_NOTHING, partial(_literal, SecretReference(value)))
        members = [(key, compile_template(member)) for key, member in value.items() if not _is_literal(member)]
        return _join([made for _, made in members], partial(_fill, dict, value, members))
    if isinstance(value, list):
        items = [(index, compile_template(item)) for index, item in enumerate(value) if not _is_literal(item)]
        return _join([made for _, made in items], partial(_fill, list, value, items))
    return Template(_NOTHING, partial(_literal, value))


def compile_text(text: str) -> Template:
    """Compiles one text. Raises Malformed."""
    return _compile_text(text) if "${" in text else Template(_NOTHING, partial(_literal, text))


@cached_by_text
def _compile_text(text: str) -> Template:
    pieces = [piece if isinstance(piece, str) else _compile_placeholder(piece) for piece in split_text(text)]
    match pieces:
        case [Template() as whole]:
            return whole
        case [str() as literal]:
            return Template(_NOTHING, partial(_literal, literal))
    return _join([piece for piece in pieces if isinstance(piece, Template)], partial(_concatenate, pieces))


def _compile_placeholder(placeholder: Placeholder) -> Template:
    if not placeholder.inner.strip():
        raise Malformed("${} names nothing", placeholder.start - 2, LITERAL_HINT)
    path = parse_path(placeholder.inner)
    if path is not None:
        return Template(frozenset({path.root}), partial(resolve, path))
    expression = compile_expression(placeholder.inner, placeholder.start)
    return Template(expression.roots, expression.evaluate, (expression,))


def with_references(value: Any) -> Any:
    """A value that a person wrote to be sent as it is: its references to secrets are ones."""
    if isinstance(value, Mapping):
        if _names_a_secret(value):
            return SecretReference(value)
        return {key: with_references(member) for key, member in value.items()}
    return [with_references(item) for item in value] if isinstance(value, list) else value


def _names_a_secret(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and isinstance(name := value.get(SECRET), str) and "${" not in name


def _is_literal(value: Any) -> bool:
    return "${" not in value if isinstance(value, str) else not isinstance(value, Mapping | list)


def _literal(value: Any, _scope: Scope) -> Any:
    return value


def _fill(new: Callable[[Any], Any], value: Any, parts: Iterable[tuple[Any, Template]], scope: Scope) -> Any:
    """A copy of a list or an object in which the parts that are not literal are filled in."""
    made = new(value)
    for place, template in parts:
        made[place] = template.render(scope)
    return made


def _concatenate(pieces: Iterable[str | Template], scope: Scope) -> str:
    texts: list[str] = []
    length = 0
    for piece in pieces:
        texts.append(piece if isinstance(piece, str) else as_text(piece.render(scope)))
        length += len(texts[-1])
        if length > MAX_TEXT:  # a definition can name one value a hundred thousand times
            raise ExpressionError(f"a text with its values filled in is longer than {MAX_TEXT:,} characters")
    return "".join(texts)


def _join(parts: Iterable[Template], render: Callable[[Scope], Any]) -> Template:
    roots = _NOTHING.union(*[part.roots for part in parts])
    return Template(roots, render, tuple([expression for part in parts for expression in part._expressions]))
