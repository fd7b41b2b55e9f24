"""Builds plain values from YAML's events, with a stack instead of recursion.

PyYAML's loaders compose by recursion: a megabyte of `[` ends the process inside the C parser, and aliases unfold without
limit. Its event stream does neither, so the depth, the unfolding of aliases and doubled keys are all watched here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from orchestrator.plain import MAX_DEPTH

MAX_UNFOLDED = 4 * 1024 * 1024  # values and characters, aliases unfolded; four times what a document without them can hold

_TAG = "tag:yaml.org,2002:"
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}.*)?")
_QUOTE_HINT = "put it in quotation marks if it is text"

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlFault(Exception):
    """Something wrong with a YAML text. `line` and `column` count from 1."""

    def __init__(self, message: str, mark: Any, location: tuple[str | int, ...] = (), hint: str = ""):
        self.message = message
        self.line = mark.line + 1 if mark else 1
        self.column = mark.column + 1 if mark else 1
        self.location = location
        self.hint = hint
        super().__init__(message)


@dataclass(slots=True)
class _Open:
    """A list or an object being built. `key` is the key whose value comes next."""

    value: Any
    anchor: str | None
    cost_before: int
    key: str | None = None
    awaits_key: bool = True


@dataclass(slots=True)
class _Builder:
    open: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)
    cost: int = 0
    document: Any = None
    documents: int = 0


def parse_yaml(text: str) -> Any:
    """The one document in `text`. Raises YamlFault."""
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            _take(builder, event)
    except yaml.reader.ReaderError as error:
        raise YamlFault(f"the character U+{_ordinal(error.character):04X} is not allowed", _Mark(text, error)) from None
    except yaml.MarkedYAMLError as error:
        raise YamlFault(f"this is not YAML: {error.problem or error}", error.problem_mark or error.context_mark) from None
    except RecursionError:
        raise YamlFault(f"nested deeper than {MAX_DEPTH} levels", None) from None
    return builder.document


def _take(builder: _Builder, event: Any) -> None:
    match event:
        case yaml.DocumentStartEvent():
            builder.documents += 1
            if builder.documents > 1:
                raise YamlFault("a second document starts here", event.start_mark, hint="a file holds one workflow")
        case yaml.ScalarEvent():
            _charge(builder, event, 1 + len(event.value))
            value = _scalar(builder, event)
            _keep(builder, event.anchor, value, 1 + len(event.value))
            _put(builder, event, value)
        case yaml.AliasEvent():
            if event.anchor not in builder.anchors:
                raise YamlFault(f"*{event.anchor} names no finished &{event.anchor}", event.start_mark, _location(builder))
            value, cost = builder.anchors[event.anchor]
            _charge(builder, event, cost)
            _put(builder, event, value)
        case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
            _start(builder, event)
        case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
            done = builder.open.pop()
            _keep(builder, done.anchor, done.value, builder.cost - done.cost_before)
