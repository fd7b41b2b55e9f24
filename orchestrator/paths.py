"""Paths into a scope: `input.count`, `issue.labels[0].name`, `a.0.b`, `headers.content-type`, `a["any key"]`.

A path has no side effects and no surprises: it either names a value that is there, or PathNotFound says what is there
instead. `variables.x` is another way to write `x`. Keys are shown in messages, values never.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.describe import kind_of, shown
from orchestrator.text_cache import cached_by_text
from persistence.errors import Afu9Error

_ROOT = re.compile(r"[^\W\d][\w-]*")
_PART = re.compile(
    r"""\.(?P<name>\w[\w-]*) | \[(?:(?P<index>\d+) | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'))\]""", re.X
)
_LITERALS = frozenset({"true", "false", "null"})
_INDEX = re.compile(r"[0-9]{1,9}")
_SHOWN_KEYS = 8
_SHOWN_CHARACTERS = 40


class EvaluationError(Afu9Error):
    """A template or a condition that cannot be worked out on the values at hand. Trying again does not help."""


class PathNotFound(EvaluationError):
    """A path names something that is not there. `path` is the path as written, `missing` its first missing part."""

    def __init__(self, path: str, missing: str, reason: str):
        self.path = path
        self.missing = missing
        super().__init__(f"${{{shown(path, 80)}}} does not exist: {reason}")


@dataclass(frozen=True, slots=True)
class Path:
    """A top-level name of the scope and the keys or indices below it, as written in `text`."""

    text: str
    root: str
    parts: tuple[str, ...]


@cached_by_text
def parse_path(text: str) -> Path | None:
    """The path that `text` is, or None if it is something else (a literal, an expression)."""
    text = text.strip()
    start = _ROOT.match(text)
    if start is None:
        return None
    parts: list[str] = [start.group()]
    position = start.end()
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            return None
        parts.append(part["name"] or part["index"] or unquote(part["quoted"]))
        position = part.end()
    return None if text in _LITERALS else make_path(text, parts)


def make_path(text: str, parts: list[str]) -> Path:
    """A path of at least one part."""
    if parts[0] == "variables" and len(parts) > 1:
        parts = parts[1:]
    return Path(text, parts[0], tuple(parts[1:]))


def unquote(quoted: str) -> str:
    """The key in a quoted part; only quotes and backslashes are escaped."""
    return re.sub(r"\\([\"'\\])", r"\1", quoted[1:-1])


def resolve(path: Path, scope: Mapping[str, Any]) -> Any:
    """The value at `path`: any JSON value, not a copy. Raises PathNotFound."""
    if path.root not in scope:
        raise PathNotFound(path.text, path.root, _absent_root(path.root, scope))
    value = scope[path.root]
    for depth, part in enumerate(path.parts):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and _INDEX.fullmatch(part) and int(part) < len(value):
            value = value[int(part)]
        elif part == "length" and isinstance(value, list | str):
            value = len(value)
        else:
            raise PathNotFound(path.text, part, _absent_part(path, depth, value))
    return value


def _absent_root(root: str, scope: Mapping[str, Any]) -> str:
    reason = f"nothing is called {_named(root)} here, there {_listed(scope, 'name')}"
    return reason + _subtraction_hint(root)


def _absent_part(path: Path, depth: int, value: Any) -> str:
    holder = ".".join([path.root, *path.parts[:depth]])
    part = path.parts[depth]
    if value is None:
        return f"{_named(holder)} is null, so it has no {_named(part)}; a variable is null when its step was skipped"
    if isinstance(value, list):
        return f"{_named(holder)} is a list of {len(value)}, it has no item {_named(part)}"
    if isinstance(value, Mapping):
        return f"{_named(holder)} has no {_named(part)}, it {_listed(value, 'key')}" + _subtraction_hint(part)
    return f"{_named(holder)} is {kind_of(value)}, so it has no {_named(part)}"


def _listed(holder: Mapping[str, Any], noun: str) -> str:
    has = "is" if noun == "name" else "has"
    if not holder:
        return f"{has} nothing" if noun == "name" else "is empty"
    names = [_named(name) for name in sorted(holder, key=str)]
    more = f" and {len(names) - _SHOWN_KEYS} more" if len(names) > _SHOWN_KEYS else ""
    return f"{has} {', '.join(names[:_SHOWN_KEYS])}{more}"


def _subtraction_hint(part: str) -> str:
    return " (to subtract, put spaces around the minus sign)" if "-" in part else ""


def _named(name: object) -> str:
    return shown(name, _SHOWN_CHARACTERS)
