"""What keeps a document from being plain JSON that PostgreSQL can hold.

Found without recursion, so that a document nested without end is a fault like any other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from orchestrator.describe import kind_of, shown
from persistence.errors import Fault

MAX_DEPTH = 100
MAX_IMPURITIES = 100  # the rest is of the same kind

Location = tuple[str | int, ...]

_SURROGATE = re.compile("[\ud800-\udfff]")


class Finding(NamedTuple):
    """A fault before its location is written as a pointer. `blocks`: nothing else can be said about the document."""

    location: Location
    message: str
    hint: str = ""
    blocks: bool = False

    def as_fault(self) -> Fault:
        return Fault(pointer_to(self.location), self.message, self.hint)


def find_impurities(document: Any) -> Iterator[Finding]:
    """Everything in `document` that is not plain JSON, in document order."""
    stack: list[tuple[Location, Any]] = [((), document)]
    while stack:
        location, value = stack.pop()
        if isinstance(value, dict | list) and len(location) > MAX_DEPTH:
            yield Finding(location, f"nested deeper than {MAX_DEPTH} levels", blocks=True)
        elif isinstance(value, dict):
            for key in value:
                yield from _key(location, key)
            stack.extend([((*location, key), member) for key, member in value.items() if isinstance(key, str)][::-1])
        elif isinstance(value, list):
            stack.extend([((*location, index), item) for index, item in enumerate(value)][::-1])
        elif isinstance(value, str):
            yield from _text(location, value)
        elif isinstance(value, float) and not math.isfinite(value):
            yield Finding(location, f"{value} is not a number that JSON knows", "use null or a text")
        elif not isinstance(value, bool | int | float | None):
            yield Finding(
                location, f"a Python {type(value).__name__} is not JSON", "use the types that JSON has", blocks=True
            )


def _key(location: Location, key: Any) -> Iterator[Finding]:
    if isinstance(key, str):
        yield from _text((*location, key), key, "the key holds ")
    else:
        message = f"the key {shown(key)} is {kind_of(key)}, not text"
        yield Finding(location, message, "put it in quotation marks", blocks=True)


def _text(location: Location, text: str, prefix: str = "") -> Iterator[Finding]:
    if "\0" in text:
        place = text.index("\0") + 1
        yield Finding(
            location, f"{prefix}a NUL character (\\u0000) at character {place}, which PostgreSQL cannot store"
        )
    if not text.isascii() and (found := _SURROGATE.search(text)):
        place = found.start() + 1
        yield Finding(location, f"{prefix}half of a surrogate pair at character {place}, which is not valid Unicode")


def pointer_to(location: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) of a location; what cannot be printed is escaped as in JSON."""
    return "".join("/" + _escaped(str(part)) for part in location)


def _escaped(part: str) -> str:
    printable = _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", part).replace("\0", "\\u0000")
    return printable.replace("~", "~0").replace("/", "~1")
