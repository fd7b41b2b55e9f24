"""Builds plain values from YAML's events, with a stack instead of recursion.

PyYAML's loaders compose by recursion: a megabyte of `[` ends the process inside the C parser, and aliases unfold without
limit. Its event stream does neither, so the depth, the unfolding of aliases and doubled keys are all watched here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from orchestrator.describe import kind_of, shown
from orchestrator.plain import MAX_DEPTH

MAX_UNFOLDED = 2 * 1024 * 1024  # values and characters with aliases unfolded; a megabyte without aliases has less

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
_MAY_BE_SPECIAL = re.compile(r"[-+.0-9]")
_TYPE_TAGS: dict[type, str] = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str"}
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
    """A list or an object being built. `key` is the last key read; `valued` tells that it has its value."""

    value: list[Any] | dict[str, Any]
    anchor: str | None
    cost_before: int
    key: str = ""
    valued: bool = True


def parse_yaml(text: str) -> Any:
    """The one document in `text`. Raises YamlFault."""
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.reader.ReaderError as error:
        raise YamlFault(f"this is not YAML: {error.reason}", None) from None
    except yaml.MarkedYAMLError as error:
        raise YamlFault(f"this is not YAML: {error.problem}", error.problem_mark) from None
    if not builder.documents:
        raise YamlFault("the document is empty", None, hint="a workflow is an object with `steps`")
    return builder.document


class _Builder:
    def __init__(self) -> None:
        self.document: Any = None
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._cost = 0
        self.documents = 0

    def take(self, event: Any) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    raise self._fault("a second document starts here", event, "a text holds one workflow")
            case yaml.ScalarEvent():
                self._charge(1 + len(event.value), event)
                value = self._scalar(event)
                self._put(value, event)
                self._remember(event.anchor, value, 1 + len(event.value))
            case yaml.AliasEvent():
                if event.anchor not in self._anchors:
                    raise self._fault(f"*{event.anchor} names nothing, no &{event.anchor} ends before it", event)
                value, cost = self._anchors[event.anchor]
                self._charge(cost, event)
                self._put(value, event)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._start(event)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                done = self._open.pop()
                self._remember(done.anchor, done.value, self._cost - done.cost_before)

    def _start(self, event: Any) -> None:
        is_list = isinstance(event, yaml.SequenceStartEvent)
        if event.tag not in (None, "!", _TAG + ("seq" if is_list else "map")):
            raise self._fault(f"the tag {_tag(event.tag)} is not supported", event, "JSON has no such type")
        if len(self._open) > MAX_DEPTH:
            raise self._fault(f"nested deeper than {MAX_DEPTH} levels", event)
        value: list[Any] | dict[str, Any] = [] if is_list else {}
        before = self._cost
        self._charge(1, event)
        self._put(value, event)
        self._open.append(_Open(value, event.anchor, before))

    def _put(self, value: Any, event: Any) -> None:
        """Gives the value its place: the document itself, an item, a key, or what belongs to the key before it."""
        if not self._open:
            self.document = value
            return
        parent = self._open[-1]
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.valued:
            parent.key, parent.valued = self._checked_key(value, parent.value, event), False
        else:
            parent.value[parent.key], parent.valued = value, True

    def _checked_key(self, key: Any, holder: dict[str, Any], event: Any) -> str:
        if not isinstance(key, str):
            raise self._fault(f"a key is {kind_of(key)}, not text", event, "put it in quotation marks")
        if key in holder:
            place = (*self._location(), key)
            raise YamlFault("the key is there twice", event.start_mark, place, "remove one of the two")
        if key == "<<":
            raise self._fault("merge keys (<<) are not supported", event, "write the keys out")
        return key

    def _scalar(self, event: Any) -> Any:
        tag, text = event.tag, event.value
        if tag in ("!", _TAG + "str") or (tag is None and not event.implicit[0]):
            return text
        value = self._plain(text, event)
        if tag is None or tag == _TAG + _TYPE_TAGS.get(type(value), ""):
            return value
        if tag in [_TAG + name for name in _TYPE_TAGS.values()]:
            raise self._fault(f"“{shown(text)}” is not what its tag {_tag(tag)} says", event)
        raise self._fault(f"the tag {_tag(tag)} is not supported", event, "JSON has no such type")

    def _plain(self, text: str, event: Any) -> Any:
        """What an unquoted scalar is by YAML 1.2's core schema."""
        if text in _WORDS:
            return _WORDS[text]
        if not _MAY_BE_SPECIAL.match(text):
            return text
        if _NO_NUMBER.fullmatch(text):
            raise self._fault(f"{text} is not a number that JSON knows", event, _QUOTE_HINT)
        if _LEADING_ZERO.fullmatch(text):
            raise self._fault(f"{shown(text)} is a number with a leading zero", event, _QUOTE_HINT)
        if _DATE.fullmatch(text):
            raise self._fault(f"{shown(text)} is a date, which JSON does not have", event, _QUOTE_HINT)
        try:
            if _INTEGER.fullmatch(text) or _BASED.fullmatch(text):
                return int(text, 0)
        except ValueError:
            raise self._fault("a number has too many digits", event, _QUOTE_HINT) from None
        return float(text) if _FLOAT.fullmatch(text) else text

    def _charge(self, cost: int, event: Any) -> None:
        self._cost += cost
        if self._cost > MAX_UNFOLDED:
            raise self._fault("the aliases (*name) unfold to too much", event, "write less, or let a tool fetch it")

    def _remember(self, anchor: str | None, value: Any, cost: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = value, cost

    def _fault(self, message: str, event: Any, hint: str = "") -> YamlFault:
        """The fault of what `event` would have put into the innermost list or object."""
        location = self._location()
        if self._open:
            innermost = self._open[-1]
            if isinstance(innermost.value, list):
                location = (*location, len(innermost.value))
            elif not innermost.valued:
                location = (*location, innermost.key)
        return YamlFault(message, event.start_mark, location, hint)

    def _location(self) -> tuple[str | int, ...]:
        """Where the innermost list or object stands: all those around it already hold what leads to it."""
        around = self._open[:-1]
        return tuple(len(part.value) - 1 if isinstance(part.value, list) else part.key for part in around)


def _tag(tag: str) -> str:
    return shown(tag.replace(_TAG, "!!"))
