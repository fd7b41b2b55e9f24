"""From JSON to values: bytes in, the dataclasses of answers.py and its neighbours out.

Keys that are not known here are ignored, so an older client reads a newer API's answers; a key that is missing, or of
another type, raises Unreadable with its place.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


class Unreadable(Exception):
    """What was answered is not what was expected; the message says where."""


def decode(kind: type[T], content: bytes) -> T:
    """Raises Unreadable."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise Unreadable("the answer is not JSON") from None
    made: T = _read(kind, found, "")
    return made


def _read(hint: Any, value: Any, place: str) -> Any:
    if hint is Any:
        return value
    origin = get_origin(hint)
    if origin is UnionType:
        if value is None and NoneType in get_args(hint):
            return None
        (hint,) = (one for one in get_args(hint) if one is not NoneType)
        origin = get_origin(hint)
    if origin is list and isinstance(value, list):
        return [_read(get_args(hint)[0], item, f"{place}/{number}") for number, item in enumerate(value)]
    if is_dataclass(hint) and isinstance(value, dict):
        return _object(hint, value, place)
    if hint is datetime and isinstance(value, str):
        return _moment(value, place)
    if hint is float and type(value) in (int, float):
        return float(value)
    plain = origin or hint
    if plain in (str, int, bool, dict) and type(value) is plain:
        return value
    raise Unreadable(f"{place or '/'} is not what was expected: {type(value).__name__}")


def _object(kind: Any, value: dict[str, Any], place: str) -> Any:
    found = {}
    for name, key, hint, optional in _keys(kind):
        if key in value:
            found[name] = _read(hint, value[key], f"{place}/{key}")
        elif not optional:
            raise Unreadable(f"{place}/{key} is missing")
    return kind(**found)


@cache
def _keys(kind: Any) -> list[tuple[str, str, Any, bool]]:
    hints = get_type_hints(kind)
    return [(one.name, camel(one.name), hints[one.name], _is_optional(one)) for one in fields(kind)]


def _is_optional(one: Field[Any]) -> bool:
    return one.default is not MISSING or one.default_factory is not MISSING


def _moment(text: str, place: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None:
        raise Unreadable(f"{place} is not a time with its zone")
    return moment


def camel(name: str) -> str:
    """triggered_by -> triggeredBy"""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
