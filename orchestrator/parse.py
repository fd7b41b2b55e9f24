"""Reads a workflow document, JSON or YAML, from text that may be anything at all.

Invariant: whatever the text, the answer is plain JSON or InvalidDefinition, soon and with bounded memory. YAML is read as
YAML 1.2's core schema has it (`on`, `yes` and `1_000` are text). Dates and numbers with a leading zero, which versions
of YAML read differently, are refused, not guessed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import islice
from typing import Any, NoReturn

from orchestrator.parse_yaml import YamlFault, parse_yaml
from orchestrator.plain import MAX_DEPTH, MAX_IMPURITIES, find_impurities, pointer_to
from persistence.errors import Fault, InvalidDefinition

MAX_BYTES = 1024 * 1024  # of UTF-8

_FLOW_YAML = re.compile(r"\s*\{\s*[^\"}\s]")


def parse_document(text: str | bytes, *, source: str = "") -> Any:
    """The document as plain JSON values. Raises InvalidDefinition.

    source: a file name, for messages; one that ends in .json, .yaml or .yml decides the format. Otherwise the text
    does: what starts with a brace or a bracket is JSON, unless its first key has no double quotes.
    """
    content = _decode(text, source)
    if not content.strip():
        _refuse(source, "the document is empty", "a workflow is an object with `steps`")
    document = _read(content, source)
    faults = [finding.as_fault() for finding in islice(find_impurities(document), MAX_IMPURITIES)]
    if faults:
        raise InvalidDefinition(faults)
    return document


def _decode(text: str | bytes, source: str) -> str:
    if len(text) > MAX_BYTES:
        _refuse(
            source, f"the document is larger than {MAX_BYTES:,} bytes", "put large data where the tools can fetch it"
        )
    if isinstance(text, bytes):
        try:
            return text.decode().removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            _refuse(source, f"the document is not UTF-8: byte {error.start + 1} is wrong", "save the file as UTF-8")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        _refuse(source, f"the document holds half of a surrogate pair at character {error.start + 1}", "")
    if size > MAX_BYTES:
        _refuse(
            source, f"the document is larger than {MAX_BYTES:,} bytes", "put large data where the tools can fetch it"
        )
    return text.removeprefix("\ufeff")


def _read(text: str, source: str) -> Any:
    ending = source.lower().rpartition(".")[2]
    if ending in ("json", "yaml", "yml"):
        is_json = ending == "json"
    else:
        is_json = text.lstrip()[0] in "{[" and not _FLOW_YAML.match(text)
    return _read_json(text, source) if is_json else _read_yaml(text, source)


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
            count = Counter(key for key, _ in pairs)
            doubled[id(made)] = [key for key in made if count[key] > 1]
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
        places = [pointer_to((*location, key)) for key in doubled.get(id(value), ())]
        faults.extend(Fault(place, "the key is there twice", "remove one of the two") for place in places)
        members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        stack.extend([((*location, key), member) for key, member in members][::-1])
    return faults


def _prefix(source: str) -> str:
    return f"{source}, " if source else ""


def _refuse(source: str, message: str, hint: str) -> NoReturn:
    raise InvalidDefinition([Fault("", f"{_prefix(source)}{message}", hint)]) from None
