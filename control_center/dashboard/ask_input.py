"""A form from a JSON Schema, and the value that was typed into it. Pure: schema in, fields out; texts in, value out.

Texts, numbers, truth values and choices have fields of their own; whatever else a schema asks for is JSON in a text area.
Numbers never leave our own JSON, so that integers of any size stay exact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.check_input import faults_by, one_line
from orchestrator.describe import kind_of
from persistence.json_value import decode_json
from workers.secrets import BLOT, redact

PREFIX = "in."
WHOLE = "input"  # the text area for what no field is for
HIDDEN = f"{BLOT} stands for what may not be shown: write what is to be sent"
FIELDS = 100  # properties with a field of their own
Kind = Literal["text", "number", "boolean", "choice", "json"]
_ABSENT: Any = object()
_READ = re.compile(r"\$\{[^}]*?\binput\.([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True, slots=True)
class Field:
    """A property. `choices`: JSON texts of what may be chosen; `default`: what the field begins with."""

    name: str
    kind: Kind
    required: bool
    told: str
    default: str
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What the field is called in the form."""
        return PREFIX + self.name


@dataclass(frozen=True, slots=True)
class Typed:
    """The input that was typed, and what is wrong with it: by the field's key, '' for the whole."""

    value: dict[str, Any]
    faults: dict[str, str] = field(default_factory=dict)


def fields_of(schema: Any) -> list[Field]:
    """One per property; none if there is no schema of an object."""
    if not isinstance(schema, Mapping) or not isinstance(schema.get("properties"), Mapping):
        return []
    required = schema.get("required")
    needed = set(required) if isinstance(required, list) and all(isinstance(one, str) for one in required) else set()
    listed = list(schema["properties"].items())[:FIELDS]
    return [_field(name, asked if isinstance(asked, Mapping) else {}, name in needed) for name, asked in listed]


def _field(name: str, asked: Mapping[str, Any], required: bool) -> Field:
    kind: Kind = "json"
    choices: tuple[str, ...] = ()
    given = asked.get("enum")
    match asked.get("type"):
        case _ if isinstance(given, list) and given:
            kind, choices = "choice", tuple(_written(one) for one in given)
        case "string":
            kind = "text"
        case "integer" | "number":
            kind = "number"
        case "boolean":
            kind, choices = "boolean", ("true", "false")
    default = asked.get("default", _ABSENT)
    if redact({name: default}) != {name: default}:  # what may not be shown is not offered either
        default = _ABSENT
    text = "" if default is _ABSENT else default if kind == "text" and isinstance(default, str) else _written(default)
    told = asked.get("description") or asked.get("title") or ""
    return Field(name, kind, required, str(told)[:500], text, choices)


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def names_read(definition: Any) -> list[str]:
    """What of the input a definition's templates name: a hint for people, where there is no schema."""
    return list(dict.fromkeys(_READ.findall(_written(definition))))


def takes_more(schema: Any, fields: list[Field]) -> bool:
    """Whether the input may hold what no field is for."""
    if not fields or not isinstance(schema, Mapping):
        return True
    return schema.get("additionalProperties") is not False or len(schema["properties"]) > len(fields)


def read_input(schema: Any, given: Mapping[str, str]) -> Typed:
    """What the form says, judged by the schema, which is a valid one: no other is stored."""
    faults: dict[str, str] = {}
    value = _whole(given.get(WHOLE, ""), faults)
    for one in fields_of(schema):
        text = given.get(one.key, "")
        if not text.strip() and not (one.kind == "text" and text):
            if one.required and one.name not in value:
                faults[one.key] = "it is needed"
            continue
        try:
            value[one.name] = text.replace("\r\n", "\n") if one.kind == "text" else decode_json(text)
        except ValueError as error:
            faults[one.key] = f"not {'a number' if one.kind == 'number' else 'JSON'}: {error}"
        if BLOT in text:
            faults[one.key] = HIDDEN
    return Typed(value, faults or _judge(schema, value))


def _whole(text: str, faults: dict[str, str]) -> dict[str, Any]:
    if not text.strip():
        return {}
    if BLOT in text:
        faults[WHOLE] = HIDDEN
    try:
        value = decode_json(text)
    except ValueError as error:
        faults[WHOLE] = f"not JSON: {error}"
        return {}
    if not isinstance(value, dict):
        faults[WHOLE] = f"it must be a JSON object, {{…}}, and is {kind_of(value)}"
        return {}
    return value


def _judge(schema: Any, value: dict[str, Any]) -> dict[str, str]:
    known = {one.name: one.key for one in fields_of(schema)}
    faults: dict[str, str] = {}
    for fault in faults_by(schema, value) if isinstance(schema, Mapping) else ():
        first = str(fault.absolute_path[0]) if fault.absolute_path else ""
        place = "" if len(fault.absolute_path) < 2 else f"{fault.json_path}: "
        faults.setdefault(known.get(first, WHOLE), f"{place}{one_line(fault.message, 300)}")
    return faults
