"""How values and names look inside a message: short, on one line, printable whatever they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def shown(value: Any, limit: int = 60) -> str:
    """The value as text, cut to `limit` characters; what cannot be printed is escaped as in JSON."""
    try:
        text = str(value)
    except ValueError:
        return "a number with thousands of digits"  # more than Python writes out
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join([c if c.isprintable() else f"\\u{ord(c):04x}" for c in cut])


def kind_of(value: Any) -> str:
    """What sort of JSON value it is, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case Mapping():
            return "an object"
    return f"a Python {type(value).__name__}"
