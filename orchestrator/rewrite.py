"""Turns an expression as people write it into CEL whose only variables are generated names.

`${issue.state} === 'open' && size(items) > 2` becomes `afu9_0 == 'open' && size(afu9_1) > 2`, with afu9_0 bound to the
path `issue.state` and afu9_1 to `items`. Paths are looked up by us, so only what an expression reads is handed to CEL,
a variable may have any name (CEL reserves `in`, `package`, `type`, …), and a missing path is known as such.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

from orchestrator.paths import Path, make_path, parse_path, unquote
from orchestrator.tokens import MAX_NESTING, Malformed, Token, split_text, tokenise

# value: what the path names · exists: whether it names anything · truth: JavaScript's truthiness of it ·
# text: as it stands inside a text
Use = Literal["value", "exists", "truth", "text"]

_MACROS = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter"})
_LITERALS = frozenset({"true", "false", "null"})
_TYPES = frozenset({"bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"})
_EQUALITY = frozenset({"==", "!=", "===", "!=="})
_JAVASCRIPT = {"===": "==", "!==": "!="}
_LOGICAL_BEFORE = frozenset({"&&", "||"})
_LOGICAL_AFTER = frozenset({"&&", "||", "?"})
_EDGE_BEFORE = _LOGICAL_BEFORE | {"", "(", "?", ":", ",", "["}
_EDGE_AFTER = _LOGICAL_AFTER | {"", ")", ":", ",", "]"}


class Rewritten(NamedTuple):
    """CEL text, and what each of its variables stands for."""

    cel: str
    bindings: tuple[tuple[str, Use, Path], ...]


def rewrite(text: str, offset: int = 0, *, truthiness: bool = False) -> Rewritten:
    """Rewrites an expression. With `truthiness`, paths that are operands of `!`, `&&`, `||` or `?` need not be true or
    false themselves. `offset` is where `text` starts in the text that positions count in. Raises Malformed."""
    writer = _Writer(list(_flatten(text, offset, 0)), truthiness)
    writer.write()
    bindings = tuple([(name, use, path) for (use, path), name in writer.names.items()])
    return Rewritten("".join(writer.pieces), bindings)


def source_position(text: str, offset: int, cel_position: int) -> int:
    """The position in the source of a position in what rewrite() makes of it."""
    writer = _Writer(list(_flatten(text, offset, 0)), truthiness=False)
    writer.write()
    ends = list(accumulate(len(piece) for piece in writer.pieces))
    index = bisect_right(ends, cel_position)
    return writer.starts[index] if index < len(ends) else offset + len(text.rstrip())


def _flatten(text: str, offset: int, nesting: int) -> Iterator[Token]:
    """The tokens of `text`; those of an inner `${…}` stand among them in parentheses. A `${path}` stays one token."""
    if nesting > MAX_NESTING:
        raise Malformed(f"more than {MAX_NESTING} ${{ inside one another", offset)
    for token in tokenise(text, offset):
        if token.kind == "placeholder":
            yield from _placeholder(token, "path", nesting)
        elif token.kind == "string" and "${" in token.text:
            yield from _string(token, nesting)
        else:
            yield token


def _placeholder(token: Token, kind: str, nesting: int) -> Iterator[Token]:
    if parse_path(token.text) is not None:
        yield token._replace(kind=kind)
        return
    if kind == "text":
        yield Token("name", "string", token.start, token.spaced)
    yield Token("operator", "(", token.start, token.spaced)
    yield from _flatten(token.text, token.start, nesting + 1)
    yield Token("operator", ")", token.start + len(token.text), False)


def _string(token: Token, nesting: int) -> Iterator[Token]:
    """A string literal that holds `${…}`: the literal pieces and the rendered values, added up."""
    mark = token.text.lstrip("bBrR")[0]
    quote = mark * 3 if token.text.endswith(mark * 3) and len(token.text) > 5 else mark
    prefix, content = token.text.split(quote, 1)
    start = token.start + len(prefix) + len(quote)
    yield Token("operator", "(", token.start, token.spaced)
    for number, piece in enumerate(split_text(content.removesuffix(quote))):
        if number:
            yield Token("operator", "+", token.start, True)
        if isinstance(piece, str):
            yield Token("string", prefix + quote + piece + quote, token.start, True)
        else:
            yield from _placeholder(Token("placeholder", piece.inner, start + piece.start, True), "text", nesting)
    yield Token("operator", ")", token.start + len(token.text), False)


@dataclass
class _Writer:
    """Writes CEL, token by token. `locals` holds what the open macros bind, with the depth of their parentheses."""

    tokens: list[Token]
    truthiness: bool
    at: int = 0
    depth: int = 0
    after_operand: bool = False
    pieces: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    names: dict[tuple[Use, Path], str] = field(default_factory=dict)
    locals: list[tuple[int, str]] = field(default_factory=list)

    def write(self) -> None:
        self._uses_type = any(a.text == "type" and b.text == "(" for a, b in pairwise(self.tokens))
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            match token.kind:
                case "operator":
                    self._operator(token)
                case "path" | "text":
                    path = parse_path(token.text)
                    assert path is not None  # noqa: S101  # _placeholder made sure of it
                    self._bind(path, 1, "text" if token.kind == "text" else self._use(1))
                case "name":
                    self._name(token)
                case _:
                    self._copy(1)

    def _text(self, steps: int) -> str:
        """The text of the operator or name so many steps away, "operand" for other tokens, "" beyond either end."""
        index = self.at + steps
        if not 0 <= index < len(self.tokens):
            return ""
        token = self.tokens[index]
        return token.text if token.kind in ("operator", "name") else "operand"

    def _put(self, text: str, token: Token) -> None:
        self.pieces.append(" " + text if token.spaced else text)
        self.starts.append(token.start)

    def _copy(self, count: int) -> None:
        for token in self.tokens[self.at : self.at + count]:
            self._put(token.text, token)
        self.at += count
        self.after_operand = True

    def _bind(self, path: Path, count: int, use: Use) -> None:
        name = self.names.setdefault((use, path), f"afu9_{len(self.names)}")
        self._put(name, self.tokens[self.at])
        self.at += count
        self.after_operand = True

    def _operator(self, token: Token) -> None:
        self.depth += (token.text in "([{") - (token.text in ")]}")
        while self.locals and self.locals[-1][0] > self.depth:
            self.locals.pop()
        self._put(_JAVASCRIPT.get(token.text, token.text), token)
        self.at += 1
        self.after_operand = token.text in ")]}"

    def _name(self, token: Token) -> None:
        member = self._text(-1) == "."
        if member and token.text in _MACROS and self._text(1) == "(" and self._text(3) == ",":
            self.locals.append((self.depth + 1, self._text(2)))
            self._copy(4)
            self.depth += 1
            self.after_operand = False
        elif token.text == "in" and self.after_operand and not member:
            self._copy(1)
            self.after_operand = False
        elif token.text == "has" and self._text(1) == "(" and not member:
            self._has()
        elif member or self._text(1) == "(" or token.text in _LITERALS or self._is_local(token.text) or self._is_type():
            self._copy(1)
        else:
            path, count = self._take_path(self.at)
            self._bind(path, count, self._use(count))

    def _has(self) -> None:
        """`has(path)` asks us; `has()` of anything else asks CEL."""
        inside = self.tokens[self.at + 2] if self.at + 2 < len(self.tokens) else None
        if inside is None or inside.kind not in ("name", "path") or self._is_local(inside.text):
            self._copy(1)
            return
        path, count = self._take_path(self.at + 2)
        if self._text(2 + count) == ")":
            self._bind(path, count + 3, "exists")
        else:
            self._copy(1)

    def _use(self, count: int) -> Use:
        """truth, where the path that takes the next `count` tokens is an operand of a logical operator."""
        before, after = self._text(-1), self._text(count)
        if not self.truthiness or after in (".", "["):
            return "value"
        if before == "!":
            return "truth"
        at_edges = before in _EDGE_BEFORE and after in _EDGE_AFTER
        return "truth" if at_edges and (before in _LOGICAL_BEFORE or after in _LOGICAL_AFTER) else "value"

    def _is_local(self, name: str) -> bool:
        return any(name == local for _, local in self.locals)

    def _is_type(self) -> bool:
        """`type(x) == string`: the name of a type, not a variable that happens to be called so."""
        after_type = self._text(-1) in _EQUALITY and self._text(-2) == ")"
        before_type = self._text(1) in _EQUALITY and self._text(2) == "type" and self._text(3) == "("
        return self._text(0) in _TYPES and self._uses_type and (after_type or before_type)

    def _take_path(self, start: int) -> tuple[Path, int]:
        """The longest path that starts at token `start`, and how many tokens it takes. A method's name is not part."""
        first = self.tokens[start]
        if first.kind == "path" and (path := parse_path(first.text)) is not None:
            return path, 1
        parts, at = [first.text], start + 1
        while part := _part(self.tokens[at : at + 4]):
            parts.append(part[0])
            at += part[1]
        last = self.tokens[at - 1]
        text = "".join(token.text for token in self.tokens[start : at - 1]) + last.text
        return make_path(text, parts), at - start


def _part(tokens: list[Token]) -> tuple[str, int] | None:
    """The key or index that `tokens` start with, and how many tokens it takes."""
    kinds = [token.kind for token in tokens]
    texts = [token.text for token in tokens]
    if kinds[:2] == ["operator", "name"] and texts[0] == "." and texts[2:3] != ["("]:
        return texts[1], 2
    if kinds[:1] == ["number"] and texts[0].startswith(".") and texts[0][1:].isdigit():
        return texts[0][1:], 1
    if len(texts) > 2 and texts[0] == "[" and texts[2] == "]":
        if kinds[1] == "number" and texts[1].isdigit():
            return texts[1], 3
        if kinds[1] == "string" and texts[1][0] in "\"'" and texts[1][:3] not in ('"""', "'''"):
            return unquote(texts[1]), 3
    return None
