"""JSON on its way into a jsonb column.

The standard library's encoder on purpose: integers of any size stay exact and NaN is refused instead of becoming null.
PostgreSQL refuses NUL characters and lone surrogates, so they are found here, with the place where they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from persistence.errors import InvalidInput

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class InvalidJson(InvalidInput):
    """A value that a jsonb column cannot hold."""


def encode_json(value: Any, *, what: str = "the value") -> str:
    """JSON text of `value`; None becomes JSON null. Raises InvalidJson saying what cannot be stored and where."""
    try:
        text = _encode(value)
        text.encode()
    except (ValueError, TypeError) as error:
        raise InvalidJson(f"{what} cannot be stored as JSON: {_reason(value, error)}") from None
    except RecursionError:
        raise InvalidJson(f"{what} cannot be stored as JSON: it is nested too deeply") from None
    if "\\u0000" in text and (place := _find(value, lambda item: isinstance(item, str) and "\0" in item)) is not None:
        raise InvalidJson(f"{what} cannot be stored as JSON: it holds a NUL character (\\u0000) at {place or '/'}")
    return text


def _reason(value: Any, error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        place = _find(value, lambda item: isinstance(item, str) and any("\ud800" <= c <= "\udfff" for c in item))
        return f"it holds text that is not valid Unicode (a lone surrogate) at {place or '/'}"
    place = _find(value, lambda item: isinstance(item, float) and (item != item or abs(item) == float("inf")))
    if place is not None:
        return f"it holds a number that JSON does not know (NaN or Infinity) at {place or '/'}"
    return str(error)


def _find(value: Any, wanted: Callable[[Any], bool], pointer: str = "") -> str | None:
    """The JSON pointer of the first item for which `wanted` is true; keys are items too."""
    if wanted(value):
        return pointer
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, child in children:
        if wanted(key):
            return f"{pointer}/{key!r}"
        if (found := _find(child, wanted, f"{pointer}/{key}")) is not None:
            return found
    return None


def decode_json(text: str | bytes) -> Any:
    """The value of JSON text, integers of any size exact. Raises ValueError, also for NaN, Infinity, invalid UTF-8 and
    nesting too deep to read."""
    try:
        return _decode(text if isinstance(text, str) else text.decode(json.detect_encoding(text), "surrogatepass"))
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not valid UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode  # json.loads makes a decoder for each text
