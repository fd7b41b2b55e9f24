"""JSON Schemas: whether a definition's inputSchema is one, and what of a value does not fit one. Nothing is ever fetched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from orchestrator.plain import Finding

KEY = "inputSchema"


def schema_findings(schema: dict[str, Any]) -> Iterator[Finding]:
    """What keeps it from being a JSON Schema."""
    try:
        dialect_of(schema).check_schema(schema)
    except SchemaError as error:
        yield Finding((KEY, *error.absolute_path), f"is not a JSON Schema: {one_line(error.message)}")


def faults_by(schema: Mapping[str, Any], value: Any) -> Iterator[ValidationError]:
    """What of `value` does not fit. What the schema refers to elsewhere, or to itself without end, or numbers too large to
    be divided are not judged."""
    try:
        yield from dialect_of(schema)(schema, registry=Registry()).iter_errors(value)
    except (Unresolvable, RecursionError, OverflowError):
        return


def dialect_of(schema: Mapping[str, Any]) -> type[Validator]:
    """The validator of the draft that the schema names; of the newest if it names none that is known."""
    named = isinstance(schema.get("$schema"), str)
    kind: type[Validator] = validator_for(schema if named else {}, default=Draft202012Validator)
    return kind


def one_line(text: str, limit: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}…"
