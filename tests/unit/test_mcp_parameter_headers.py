"""Arguments mirrored as headers: which marks are valid, and how values are written."""

from __future__ import annotations

from typing import Any

import pytest

from workers.mcp_client.catalogue import read_catalogue
from workers.mcp_client.failures import Trouble
from workers.mcp_client.parameter_headers import headers_for, marked


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def mark(name: Any, kind: Any = "string") -> dict[str, Any]:
    return {"type": kind, "x-mcp-header": name}


def test_marks_are_found_in_nested_properties() -> None:
    """Every marked property gives a header, under its path."""
    nested = schema(a=mark("A"), deep={"type": "object", "properties": {"b": mark("B-b", "integer")}})
    marks = marked(nested)
    assert marks == {("a",): "A", ("deep", "b"): "B-b"}
    assert headers_for(marks, {"a": "x", "deep": {"b": 5}}) == {"mcp-param-a": "x", "mcp-param-b-b": "5"}
    assert headers_for(marks, {"a": None, "deep": 7}) == {}
    assert headers_for({("f",): "F"}, {"f": True}) == {"mcp-param-f": "true"}


@pytest.mark.parametrize(
    "broken",
    [
        schema(a=mark("")),
        schema(a=mark("has space")),
        schema(a=mark(5)),
        schema(a=mark("A", "number")),
        schema(a=mark("A", "array")),
        schema(a=mark("A", None)),
        schema(a=mark("A"), b=mark("a")),
        schema(a={"type": "array", "items": mark("A")}),
        schema(a={"anyOf": [mark("A")]}),
        {"type": "object", "x-mcp-header": "A"},
        {"$defs": {"x": mark("A")}},
    ],
)
def test_invalid_marks_are_refused(broken: dict[str, Any]) -> None:
    """Empty or no token, a type that has no safe text, twice the same, or not reached through properties alone."""
    with pytest.raises(ValueError, match="x-mcp-header"):
        marked(broken)


def test_data_in_a_schema_is_not_a_mark() -> None:
    """A default or an example may hold anything."""
    assert marked(schema(a={"type": "object", "default": mark("A"), "examples": [mark("B")]})) == {}


def test_a_list_of_tools_is_read_to_its_end_without_unusable_ones() -> None:
    """Pages are followed; a tool with an invalid mark is dropped, the others stay."""
    pages = {
        None: {"tools": [{"name": "a", "inputSchema": schema(x=mark("X"))}, "junk", {"name": 5}], "nextCursor": "2"},
        "2": {"tools": [{"name": "b", "inputSchema": schema(x=mark("not ok"))}, {"name": "c"}]},
    }
    found = read_catalogue(lambda params: pages[params.get("cursor")], "server s", with_marks=True)
    assert [tool["name"] for tool in found.tools] == ["a", "c"]
    assert found.marks == {"a": {("x",): "X"}}
    everything = read_catalogue(lambda params: pages[params.get("cursor")], "server s", with_marks=False)
    assert [tool["name"] for tool in everything.tools] == ["a", "b", "c"]


def test_a_list_that_never_ends_is_refused() -> None:
    """A server may not keep us reading for ever."""
    numbers = iter(range(10_000))
    with pytest.raises(Trouble, match="never ends"):
        read_catalogue(lambda _: {"tools": [], "nextCursor": str(next(numbers))}, "server s", with_marks=False)
