"""What a person hands over: definition files, `-i key=value` pairs, context files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.parse import parse_document
from persistence.errors import InvalidInput, NotFound
from persistence.json_value import decode_json


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises NotFound or InvalidInput."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"no file {path}") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None


def read_document(path: Path) -> Any:
    """A JSON or YAML document. Raises InvalidDefinition with what keeps it from being read."""
    return parse_document(read_bytes(path), source=str(path))


def read_object(path: Path, what: str) -> dict[str, Any]:
    """A JSON or YAML object."""
    document = read_document(path)
    if not isinstance(document, dict):
        raise InvalidInput(f"{path}: the {what} must be an object, not {type(document).__name__}")
    return document


def read_input(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` pairs as one object. A value is JSON where it reads back as it was written (42, true, {"a": 1}) and
    text otherwise (1.10, main); `@path` takes a file: JSON or YAML by its name, text else. A pair `@path` is an object."""
    collected: dict[str, Any] = {}
    for pair in pairs:
        if pair.startswith("@"):
            collected |= read_object(Path(pair[1:]), "input")
            continue
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidInput(f"-i takes key=value or @file, not {pair!r}")
        collected[key] = _file_value(Path(value[1:])) if value.startswith("@") else _value(value)
    return collected


def read_value(text: str, what: str) -> Any:
    """A JSON value; `@path` takes it from a file, JSON or YAML."""
    if text.startswith("@"):
        return read_document(Path(text[1:]))
    try:
        return decode_json(text)
    except ValueError as error:
        raise InvalidInput(f"{what} takes JSON or @file: {error}") from None


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if text[:1] in '[{"' or json.dumps(value) == text else text


def _file_value(path: Path) -> Any:
    if path.suffix in (".json", ".yaml", ".yml"):
        return read_document(path)
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8 text") from None
