"""What keeps a document from being plain JSON that PostgreSQL can hold.

Found without recursion, so that a document nested without end is a fault like any other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.paths import kind_of

MAX_DEPTH = 100

Location = tuple[str | int, ...]
Finding = tuple[Location, str, str]

_SURROGATE = re.compile("[\ud800-\udfff]")


def find_impurities(document: Any) -> Iterator[Finding]:
    """(location, message, hint) of everything in `document` that is not plain JSON, in document order."""
    stack: list[tuple[Location, Any]] = [((), document)]
    while stack:
        location, value = stack.pop()
        if isinstance(value, dict | list) and len(location) > MAX_DEPTH:
            yield location, f"nested deeper than {MAX_DEPTH} levels", ""
        elif isinstance(value, dict):
            for key in value:
                yield from _key(location, key)
            stack.extend([((*location, key), member) for key, member in value.items() if isinstance(key, str)][::-1])
        elif isinstance(value, list):
            stack.extend([((*location, index), item) for index, item in enumerate(value)][::-1])
        elif isinstance(value, str):
            yield from _text(location, value)
        elif isinstance(value, float) and not math.isfinite(value):
            yield location, f"{value} is not a number that JSON knows", "use null or a text"
        elif not isinstance(value, bool | int | float | None):
            yield location, f"{kind_of(value)} is not JSON", "use text, numbers, true, false, null, lists and objects"


def _key(location: Location, key: Any) -> Iterator[Finding]:
    if not isinstance(key, str):
        yield location, f"the key {key!r} is {kind_of(key)}, a key is text", "put it in quotation marks"
    else:
        yield from _text((*location, key), key)


def _text(location: Location, text: str) -> Iterator[Finding]:
    if "\0" in text:
        yield location, f"a NUL character (\\u0000) at character {text.index(chr(0)) + 1}, which PostgreSQL cannot store", ""
    if not text.isascii() and (found := _SURROGATE.search(text)):
        yield location, f"half of a surrogate pair at character {found.start() + 1}, which is not valid Unicode", ""


def pointer_to(location: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) of a location; what cannot be printed is escaped as in JSON."""
    return "".join("/" + _escaped(str(part)) for part in location)


def _escaped(part: str) -> str:
    printable = _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", part).replace("\0", "\\u0000")
    return printable.replace("~", "~0").replace("/", "~1")
