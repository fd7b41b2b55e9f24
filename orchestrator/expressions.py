"""Expressions over a scope, evaluated by CEL.

Compiled when first used, once per text; a compiled expression may be used by any number of threads. CEL limits the
depth of the text and the number of iterations; bound_work reckons what an evaluation may take before it starts. The
depth of a value is checked here, because CEL copies values by recursion and one nested a hundred thousand times ends
the process.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from cel_expr_python import cel  # type: ignore[import-untyped]  # its stubs lack the py.typed marker

from orchestrator.bound_work import NODE, Bound, TooMuch, check_work
from orchestrator.cel_tree import Node, read_tree
from orchestrator.describe import shown
from orchestrator.paths import EvaluationError, Path, PathNotFound, resolve
from orchestrator.rewrite import Rewritten, rewrite, source_position
from orchestrator.text_cache import cached_by_text
from orchestrator.tokens import LITERAL_HINT, Malformed

MAX_VALUE_DEPTH = 200
_INT64 = range(-(2**63), 2**63)
_COMPILE_ERROR = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_NOISE = re.compile(r"^[A-Z_]+: | \(in container ''\)| \[[A-Z_]+\]$|Syntax error: | expecting .*$")
_PLAINER = (
    (re.compile(r"(mismatched|extraneous) input '<EOF>'"), "it ends too early"),
    (
        re.compile(r"(?:mismatched|extraneous) input|no viable alternative at input|token recognition error at:"),
        "unexpected",
    ),
    (re.compile(r"undeclared reference to"), "there is no function"),
)
_ABSENT = ("Key not found in map", "Index error", "Applying SELECT to non-message type", "Invalid container type")


class ExpressionError(EvaluationError):
    """An expression that has no value here: wrong types, division by zero, a number beyond 64 bits, too much work."""


class Expression:
    """One expression. `roots`: the top-level names it reads. `offset`: where it starts in the text it was cut from."""

    __slots__ = ("_passed", "_program", "_rewritten", "_tree", "offset", "roots", "text")

    def __init__(self, text: str, offset: int, rewritten: Rewritten):
        self.text = text
        self.offset = offset
        self.roots = frozenset([path.root for _, _, path in rewritten.bindings])
        self._rewritten = rewritten
        self._program: cel.Expression | None = None
        self._tree: Node | None = None
        self._passed: dict[str, Bound] = {}  # values that were not too much; smaller ones are not either

    def check(self) -> None:
        """Compiles it. Raises Malformed for what is not CEL."""
        self._compiled()

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """Its value as JSON. Raises PathNotFound for a path it needs and does not find, else ExpressionError."""
        try:
            program = self._compiled()
        except Malformed as error:
            raise ExpressionError(str(error)) from None
        data, weights, missing = self._bind(scope)
        self._weigh(program, weights)
        try:
            result = program.eval(data=data)
            kind = result.type()
            value = result.value() if kind == cel.Type.ERROR else result.plain_value()
        except (RuntimeError, TypeError, ValueError, OverflowError) as error:
            raise ExpressionError(
                f"“{shown(self.text.strip(), 80)}” cannot be worked out: {_reason(str(error))}"
            ) from None
        if kind != cel.Type.ERROR:
            return _as_json(value, shown(self.text.strip(), 80))
        if missing is not None:
            raise missing
        reason = self._named(_reason(str(value)))
        if any(sign in reason for sign in _ABSENT):
            raise PathNotFound(shown(self.text.strip(), 80), "", reason)
        raise ExpressionError(f"“{shown(self.text.strip(), 80)}” cannot be worked out: {reason}{_number_hint(reason)}")

    def _weigh(self, program: cel.Expression, weights: dict[str, Bound]) -> None:
        """Raises ExpressionError where the values make it too much work."""
        passed = self._passed
        if passed and all(_within(weight, passed.get(name)) for name, weight in weights.items()):
            return
        if self._tree is None:
            self._tree = read_tree(program.serialize())
        try:
            check_work(self._tree, weights)
        except TooMuch as error:
            raise ExpressionError(
                f"“{shown(self.text.strip(), 80)}” is too much work on these values: {error}; "
                "take fewer items or shorter texts, or leave it to a tool"
            ) from None
        self._passed = weights

    def _bind(self, scope: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Bound], PathNotFound | None]:
        """What CEL's variables hold, how much that is, and the first path that is not there. A missing path stays
        unbound: CEL then makes an error of every operation on it, except where the other side of `&&` or `||` decides
        alone."""
        data: dict[str, Any] = {}
        weights: dict[str, Bound] = {}
        missing: PathNotFound | None = None
        for name, use, path in self._rewritten.bindings:
            try:
                value = resolve(path, scope)
            except PathNotFound as error:
                if use == "exists":
                    data[name] = False
                else:
                    missing = missing or error
                continue
            match use:
                case "exists":
                    data[name] = True
                case "truth":
                    data[name] = truthy(value)
                case "text":
                    data[name] = as_text(value)
                    weights[name] = _Scales(path).bound(data[name])
                case "value":
                    weights[name] = _Scales(path).bound(value)
                    data[name] = value
        return data, weights, missing

    def _compiled(self) -> cel.Expression:
        """CEL's program; two threads may both make it, either will do."""
        if self._program is None:
            size = 1 << max(len(self._rewritten.bindings) - 1, 7).bit_length()
            try:
                self._program = _environment(size).compile(self._rewritten.cel)
            except (RuntimeError, TypeError) as error:
                raise self._malformed(str(error)) from None
        return self._program

    def _malformed(self, report: str) -> Malformed:
        found = _COMPILE_ERROR.search(report)
        column = int(found[2]) - 1 if found else 0
        reason = self._named(_reason(found[3] if found else report))
        position = source_position(self.text, self.offset, max(column, 0))
        return Malformed(f"“{shown(self.text.strip(), 80)}” is not an expression: {reason}", position, LITERAL_HINT)

    def _named(self, reason: str) -> str:
        """The reason with the paths as they were written."""
        names = {name: path.text for name, _, path in self._rewritten.bindings}
        return re.sub(r"afu9_\d+", lambda match: names.get(match[0], match[0]), reason)


@cached_by_text
def compile_expression(text: str, offset: int = 0, *, truthiness: bool = False) -> Expression:
    """An expression, not yet given to CEL. For the arguments see rewrite(). Raises Malformed."""
    return Expression(text, offset, rewrite(text, offset, truthiness=truthiness))


@lru_cache(maxsize=16)
def _environment(variables: int) -> cel.Env:
    return cel.NewEnv(variables={f"afu9_{number}": cel.Type.DYN for number in range(variables)})


def truthy(value: Any) -> bool:
    """JavaScript's truthiness: false, null, 0, NaN and the empty text are false, empty lists and objects are true."""
    if isinstance(value, float):
        return value == value and value != 0
    return isinstance(value, list | Mapping) or bool(value)


def as_text(value: Any) -> str:
    """How a value stands inside a text: text as it is, anything else as compact JSON. Raises ExpressionError."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise ExpressionError(f"a value cannot be written as JSON: {error}") from None


class _Scales:
    """Weighs what an expression reads, and refuses what CEL cannot hold."""

    def __init__(self, path: Path):
        self._path = path
        self._item = self._deep = 0

    def bound(self, value: Any) -> Bound:
        size = self._weigh(value, 0)
        items = len(value) if isinstance(value, Mapping | list) else 0
        return Bound(Counter({"": size}), items, self._item, self._deep)

    def _weigh(self, value: Any, depth: int) -> int:
        match value:
            case str():
                return NODE + (len(value) if value.isascii() else 4 * len(value))
            case bool():
                return NODE
            case int() if value not in _INT64:
                raise self._refused("holds a whole number beyond 64 bits, which cannot be calculated with")
            case list():
                return self._within(value, value, depth)
            case Mapping():
                return self._within(value, value.values(), depth) + sum([NODE + 4 * len(key) for key in value])
        return NODE

    def _within(self, value: Any, members: Iterable[Any], depth: int) -> int:
        if depth >= MAX_VALUE_DEPTH:
            raise self._refused(f"is nested deeper than {MAX_VALUE_DEPTH} levels")
        sizes = [self._weigh(member, depth + 1) for member in members]
        if depth:
            self._deep = max(self._deep, len(sizes))
        self._item = max(self._item, max(sizes, default=0))
        return NODE + sum(sizes)

    def _refused(self, reason: str) -> ExpressionError:
        return ExpressionError(f"${{{shown(self._path.text)}}} {reason}")


def _within(weight: Bound, passed: Bound | None) -> bool:
    return (
        passed is not None
        and weight.size[""] <= passed.size[""]
        and weight.items <= passed.items
        and weight.item <= passed.item
        and weight.deep <= passed.deep
    )


def _as_json(value: Any, text: str) -> Any:
    """The value with plain dicts and lists all through; CEL also has bytes, times, durations and types."""
    match value:
        case None | bool() | int() | str():
            return value
        case float() if abs(value) < float("inf"):
            return value
        case list():
            return [_as_json(item, text) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {key: _as_json(item, text) for key, item in value.items()}
    kind = "an object with keys that are not text" if isinstance(value, dict) else f"a {type(value).__name__}"
    raise ExpressionError(f"“{text}” gives {kind}, which JSON does not have; string(…) makes text of most things")


def _reason(report: str) -> str:
    """The first line of what CEL reports, in plainer words."""
    reason = report.split("\n", 1)[0]
    for _ in range(3):
        reason = _NOISE.sub("", reason)
    for pattern, words in _PLAINER:
        reason = pattern.sub(words, reason)
    return shown(reason.strip(), 200)


def _number_hint(reason: str) -> str:
    mixed = "double" in reason and "int64" in reason
    return "; whole and decimal numbers do not mix, double(…) makes a decimal number of either" if mixed else ""
