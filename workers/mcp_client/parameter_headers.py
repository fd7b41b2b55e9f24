"""Arguments that a tool's schema wants mirrored as HTTP headers (`x-mcp-header`, protocol 2026-07-28).

Pure. A schema may put the mark only on a string, integer or boolean property that is reached through `properties`
alone; a tool that marks anything else is not usable and is dropped from the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from workers.mcp_client.call import header_value

_MARK = "x-mcp-header"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TYPES = ("string", "integer", "boolean")
_DATA_KEYS = frozenset({"default", "examples", "const", "enum", "required"})
_NAMED_SCHEMAS = frozenset({"patternProperties", "dependentSchemas", "$defs", "definitions"})

Path = tuple[str, ...]


def marked(schema: Any) -> dict[Path, str]:
    """The header name of every marked property, by its path. Raises ValueError that says what is wrong with a mark."""
    found: dict[Path, str] = {}
    for path, node in _schemas(schema):
        if _MARK not in node:
            continue
        name = node[_MARK]
        if not path:
            raise ValueError(f"{_MARK} where it cannot be: not on a property reached through properties alone")
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ValueError(f"{_MARK} of {'.'.join(path)} is not a header name")
        if node.get("type") not in _TYPES:
            raise ValueError(f"{_MARK} of {'.'.join(path)}: only a string, integer or boolean can be a header")
        if name.lower() in (other.lower() for other in found.values()):
            raise ValueError(f"{_MARK} {name} is used twice")
        found[path] = name
    return found


def _schemas(root: Any) -> Iterator[tuple[Path | None, dict[str, Any]]]:
    """Every place of the schema that is a schema itself, with its path of property names (None: other keys too)."""
    todo: list[tuple[Path | None, Any]] = [((), root)]
    while todo:
        path, node = todo.pop()
        if isinstance(node, list):
            todo.extend((None, item) for item in node)
        if not isinstance(node, dict):
            continue
        yield path, node
        for key, value in node.items():
            if key == "properties" and isinstance(value, dict):
                todo.extend((None if path is None else (*path, name), sub) for name, sub in value.items())
            elif key in _NAMED_SCHEMAS and isinstance(value, dict):
                todo.extend((None, sub) for sub in value.values())
            elif key not in _DATA_KEYS and isinstance(value, dict | list):
                todo.append((None, value))


def headers_for(marks: Mapping[Path, str], arguments: Mapping[str, Any]) -> dict[str, str]:
    """The `Mcp-Param-*` headers of one call; an absent or null argument sends none."""
    headers = {}
    for path, name in marks.items():
        text = _text(_at(arguments, path))
        if text is not None:
            headers[f"mcp-param-{name.lower()}"] = header_value(text)
    return headers


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None
