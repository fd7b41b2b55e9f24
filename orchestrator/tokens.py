"""Cuts texts at their `${…}` and expressions into tokens, with the position of every piece.

Invariant: what stands inside a string literal is never taken for anything else, neither a brace nor an operator. Work
is linear in the text; nesting and length are bounded, so no text can keep a process busy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.describe import shown
from persistence.errors import Afu9Error

MAX_EXPRESSION = 20_000  # characters
MAX_NESTING = 8  # a `${` inside the expression of another

LITERAL_HINT = "for the text ${ itself write $${"

_SIMPLE = re.compile(r"\$\{[^{}'\"/]*\}")  # nothing in it can hide the closing brace
_TOKEN = re.compile(
    r"""
      (?P<name> (?![bBrR]{1,2}["']) [^\W\d]\w* )
    | (?P<operator> ===|!==|==|!=|<=|>=|&&|\|\||/(?!/)|\.(?!\d)|[-+*%!<>=?:,()\[\]{}] )
    | (?P<space> \s+ | //[^\n]* )
    | (?P<number> 0[xX][0-9a-fA-F]+[uU]? | (?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?[uU]? )
    | (?P<string> (?:[bB]?[rR]|[rR][bB]) (?: \"{3}.*?\"{3} | '{3}.*?'{3} | \"[^\"\n]*\" | '[^'\n]*' )
        | [bB]? (?: \"{3}(?:[^\\]|\\.)*?\"{3} | '{3}(?:[^\\]|\\.)*?'{3}
                  | \"(?!\"\")(?:[^\"\\\n]|\\.)*\" | '(?!'')(?:[^'\\\n]|\\.)*' ) )
    | (?P<open> \$\{ )
    """,
    re.X | re.S,
)


class Malformed(Afu9Error):
    """A text whose `${…}` or expression cannot be read. `position` counts characters from 0."""

    def __init__(self, message: str, position: int, hint: str = ""):
        self.reason = message
        self.position = position
        self.hint = hint
        super().__init__(f"{message}, at character {position + 1}" + (f" ({hint})" if hint else ""))


class Token(NamedTuple):
    """kind: string, number, name, operator, or placeholder (text is then what stands between `${` and `}`).

    start: its position; for a placeholder, that of the text inside. spaced: whether space or a comment precedes it.
    """

    kind: str
    text: str
    start: int
    spaced: bool


class Placeholder(NamedTuple):
    """One `${…}` of a text: what stands inside, and where that starts."""

    inner: str
    start: int


def split_text(text: str) -> list[str | Placeholder]:
    """The literal pieces and placeholders of `text`, in order; `$${` becomes a literal `${`. Raises Malformed."""
    pieces: list[str | Placeholder] = []
    literal: list[str] = []
    position = 0
    while (found := text.find("${", position)) >= 0:
        if found > position and text[found - 1] == "$":
            literal.append(text[position : found - 1] + "${")
            position = found + 2
            continue
        literal.append(text[position:found])
        if before := "".join(literal):
            pieces.append(before)
        literal.clear()
        end = _end_of(text, found)
        pieces.append(Placeholder(text[found + 2 : end], found + 2))
        position = end + 1
    literal.append(text[position:])
    if rest := "".join(literal):
        pieces.append(rest)
    return pieces


def _end_of(text: str, opening: int) -> int:
    """The position of the `}` that closes the `${` at `opening`."""
    if simple := _SIMPLE.match(text, opening):
        return simple.end() - 1
    depth, position = 1, opening + 2
    while match := _TOKEN.match(text, position):
        symbol = match.group()
        if match.lastgroup == "open" or symbol == "{":
            depth += 1
        elif symbol == "}":
            depth -= 1
            if depth == 0:
                return position
        position = match.end()
        if position - opening > MAX_EXPRESSION:
            raise Malformed(f"the expression is longer than {MAX_EXPRESSION:,} characters", opening)
    if position == len(text):
        raise Malformed("${ is not closed by a }", opening, LITERAL_HINT)
    raise Malformed(f"“{shown(text[position])}” does not belong in an expression", position, _hint(text[position]))


def tokenise(text: str, offset: int = 0) -> Iterator[Token]:
    """The tokens of an expression. `offset` is added to every position. Raises Malformed."""
    if len(text) > MAX_EXPRESSION:
        raise Malformed(f"the expression is longer than {MAX_EXPRESSION:,} characters", offset)
    position, spaced = 0, False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise Malformed(
                f"“{shown(text[position])}” does not belong in an expression", offset + position, _hint(text[position])
            )
        end = match.end()
        if match.lastgroup == "open":
            end = _end_of(text, position)
            yield Token("placeholder", text[position + 2 : end], offset + position + 2, spaced)
            end += 1
        elif match.lastgroup != "space":
            yield Token(str(match.lastgroup), match.group(), offset + position, spaced)
        spaced = match.lastgroup == "space"
        position = end


def _hint(character: str) -> str:
    return "a quotation mark is not closed" if character in "\"'" else LITERAL_HINT
