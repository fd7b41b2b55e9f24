"""Reads a workflow document, JSON or YAML, from text that may be anything at all.

Invariant: whatever the text, the answer is plain JSON or InvalidDefinition, soon and with bounded memory. YAML is read as YAML
1.2's core schema has it (`on`, `yes` and `1_000` are text). What YAML versions read differently is refused, not guessed.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from orchestrator.parse_yaml import YamlFault, parse_yaml
from orchestrator.plain import MAX_DEPTH, find_impurities, pointer_to
from persistence.errors import Fault, InvalidDefinition

MAX_BYTES = 1024 * 1024  # of UTF-8


def parse_document(text: str | bytes, *, source: str = "") -> Any:
    """The document as plain JSON values. Raises InvalidDefinition.

    source: a file name, for messages; one that ends in .json, .yaml or .yml decides the format. Otherwise the text
    does: what starts with a brace or a bracket is read as JSON, and as YAML if that fails.
    """
    content = _decode(text, source)
    if not content.strip():
        _refuse(source, "the document is empty", "a workflow is an object with `steps`")
    document = _read(content, source)
    faults = [Fault(pointer_to(where), message, hint) for where, message, hint in find_impurities(document)]
    if faults:
        raise InvalidDefinition(faults)
    return document


def _decode(text: str | bytes, source: str) -> str:
    if len(text) > MAX_BYTES:
        _refuse(source, f"the document is larger than {MAX_BYTES:,} bytes", "put large data where the tools can fetch it")
    if isinstance(text, bytes):
        try:
            return text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            _refuse(source, f"the document is not UTF-8: byte {error.start + 1} is wrong", "save the file as UTF-8")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        _refuse(source, f"the document holds half of a surrogate pair at character {error.start + 1}", "")
    if size > MAX_BYTES:
        _refuse(source, f"the document is larger than {MAX_BYTES:,} bytes", "put large data where the tools can fetch it")
    return text.removeprefix("\ufeff")


def _read(text: str, source: str) -> Any:
    ending = source.lower().rpartition(".")[2]
    if ending == "json":
        return _read_json(text, source)
    if ending in ("yaml", "yml") or text.lstrip()[:1] not in ("{", "["):
        return _read_yaml(text, source)
    try:
        return _read_json(text, source)
    except InvalidDefinition as wrong_json:
        if any(fault.pointer for fault in wrong_json.faults):
            raise
        try:
            return _read_yaml(text, source)
        except InvalidDefinition:
            raise wrong_json from None


def _read_yaml(text: str, source: str) -> Any:
    try:
        return parse_yaml(text)
    except YamlFault as fault:
        place = f"line {fault.line}, column {fault.column}"
        raise InvalidDefinition(
            [Fault(pointer_to(fault.location), f"{_prefix(source)}{place}: {fault.message}", fault.hint)]
        ) from None


def _read_json(text: str, source: str) -> Any:
    doubled: dict[int, list[str]] = {}

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            doubled[id(made)] = sorted({key for key in keys if keys.count(key) > 1}, key=keys.index)
        return made

    try:
        document = json.loads(text, object_pairs_hook=build)
    except json.JSONDecodeError as error:
        _refuse(source, f"line {error.lineno}, column {error.colno}: this is not JSON: {error.msg}", "")
    except RecursionError:
        _refuse(source, f"the document is nested deeper than {MAX_DEPTH} levels", "")
    except ValueError:
        _refuse(source, "a number has too many digits", "write it as text, in quotation marks")
    if doubled:
        raise InvalidDefinition(_doubled_keys(document, doubled))
    return document


def _doubled_keys(document: Any, doubled: dict[int, list[str]]) -> list[Fault]:
    faults: list[Fault] = []
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while stack:
        location, value = stack.pop()
        for key in doubled.get(id(value), ()):
            faults.append(Fault(pointer_to((*location, key)), "the key is there twice", "remove one of the two"))
        members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        stack.extend([((*location, key), member) for key, member in members][::-1])
    return faults


def _prefix(source: str) -> str:
    return f"{source}, " if source else ""


def _refuse(source: str, message: str, hint: str) -> NoReturn:
    raise InvalidDefinition([Fault("", f"{_prefix(source)}{message}", hint)]) from None
