"""Definitions against the tool catalogue."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.validate import validate
from persistence.errors import Fault, InvalidDefinition

SCHEMA = {
    "type": "object",
    "required": ["owner", "number"],
    "additionalProperties": False,
    "properties": {
        "owner": {"type": "string", "minLength": 2},
        "number": {"type": "integer", "minimum": 1},
        "labels": {"type": "array", "items": {"enum": ["bug", "idea"]}},
        "deep": {"type": "object", "required": ["a"], "properties": {"a": {"anyOf": [{"type": "null"}, {"const": 1}]}}},
    },
}
TOOLS = {
    "github": {
        "getIssue": SCHEMA,
        "odd": {"type": "nonsense"},
        "far": {"$ref": "https://example.invalid/s"},
        "undated": {"$schema": []},
        "halves": {"properties": {"any": {"multipleOf": 0.5}}},
    }
}


def faults(params: Any, tool: str = "github.getIssue") -> dict[str, str]:
    document = {"steps": [{"name": "a", "tool": tool, "params": params}]}
    try:
        validate(document, tools=TOOLS)
    except InvalidDefinition as error:
        return {fault.pointer: str(Fault("", fault.message, fault.hint)) for fault in error.faults}
    return {}


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"owner": "ada"}, "/steps/0/params"),
        ({"owner": "ada", "number": 1, "repository": "x"}, "/steps/0/params"),
        ({"owner": "ada", "number": "one"}, "/steps/0/params/number"),
        ({"owner": "a", "number": 1}, "/steps/0/params/owner"),
        ({"owner": "ada", "number": 0}, "/steps/0/params/number"),
        ({"owner": "ada", "number": 1, "labels": ["bug", "x"]}, "/steps/0/params/labels/1"),
        ({"owner": "ada", "number": 1, "deep": {}}, "/steps/0/params/deep"),
        ({"owner": "ada", "number": 1, "deep": {"a": 2}}, "/steps/0/params/deep/a"),
        ({"owner": "${input.o}"}, "/steps/0/params"),
    ],
)
def test_params_that_are_written_out_must_fit(params: Any, pointer: str) -> None:
    """Each misfit at its place, keys also where values are not known yet."""
    assert list(faults(params)) == [pointer]
    assert "input schema" in faults(params)[pointer]


@pytest.mark.parametrize(
    "params",
    [
        {"owner": "ada", "number": 1},
        {"owner": "${input.o}", "number": "${input.n}"},
        {"owner": "x${input.o}", "number": 2, "labels": ["${input.l}"]},
        {"owner": {"$secret": "NAME"}, "number": 2},
        {"owner": "ada", "number": 1, "deep": {"a": "${input.a}"}},
    ],
)
def test_what_only_the_run_will_know_is_not_judged(params: Any) -> None:
    """Templates and secrets."""
    assert faults(params) == {}


def test_an_unknown_tool_is_named_with_what_there_is() -> None:
    """With the likely one first."""
    assert "getIssue" in faults({}, "github.getIssues")["/steps/0/tool"]
    assert "getIssue" in faults({}, "github.zzz")["/steps/0/tool"]


def test_servers_that_have_not_listed_their_tools_are_not_judged() -> None:
    """No row is no verdict."""
    assert faults({"any": 1}, "elsewhere.tool") == {}


@pytest.mark.parametrize("tool", ["odd", "far", "undated", "halves"])
def test_what_cannot_be_judged_by_a_schema_is_not(tool: str) -> None:
    """And nothing is fetched."""
    assert faults({"any": 10**400}, f"github.{tool}") == {}


def test_faults_of_structure_and_of_tools_come_together() -> None:
    """All at once, in document order."""
    document = {
        "steps": [
            {"name": "a", "tool": "github.getIssue", "params": {"owner": "ada"}, "surprise": 1},
            {"name": "a", "tool": "github.none", "params": {}},
        ]
    }
    with pytest.raises(InvalidDefinition) as raised:
        validate(document, tools=TOOLS)
    assert [fault.pointer for fault in raised.value.faults] == [
        "/steps/0/params",
        "/steps/0/surprise",
        "/steps/1/name",
        "/steps/1/tool",
    ]


@pytest.mark.parametrize("catalogue", [None, {}, {"builtin": {"nope": {}}}])
def test_the_builtin_tools_are_known_without_a_catalogue(catalogue: Any) -> None:
    """This program has them, whatever the rows say."""
    steps = [
        {"name": "a", "tool": "builtin.nope", "params": {}},
        {"name": "b", "tool": "builtin.slep", "params": {}},
        {"name": "c", "tool": "builtin.sleep", "params": {"seconds": -1}},
        {"name": "d", "tool": "builtin.sleep", "params": {"seconds": "${input.s}"}},
    ]
    with pytest.raises(InvalidDefinition) as refused:
        validate({"steps": steps}, tools=catalogue)
    assert [(fault.pointer, fault.hint) for fault in refused.value.faults] == [
        ("/steps/0/tool", "it has: echo, fail, sleep, transform"),
        ("/steps/1/tool", "did you mean “sleep”?"),
        ("/steps/2/params/seconds", "see `afu9 tools builtin.sleep`"),
    ]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"expression": "a +"}, "ends too early, at character 4"),
        ({"expression": "nothing(a)", "with": {"a": 1}}, "there is no function"),
        (
            {"expression": "size(issue)", "with": {"issues": []}},
            "“issue” is not among the values under `with` (did you",
        ),
        ({"expression": "input.n + 1"}, "(write with: {input: ${…}})"),
    ],
)
def test_an_expression_that_is_written_out_must_be_one(params: Any, words: str) -> None:
    """And read nothing that it is not given."""
    found = faults(params, "builtin.transform")
    assert list(found) == ["/steps/0/params/expression"]
    assert words in found["/steps/0/params/expression"]


@pytest.mark.parametrize(
    "params",
    [
        {"expression": "a.b", "with": {"a": "${input.a}"}},
        {"expression": "a.b", "with": "${input}"},
        {"expression": "${input.rule}"},
        {"expression": "xs.map(x, x + 1)", "with": {"xs": [1]}},
    ],
)
def test_an_expression_that_may_be_one_is_left_to_the_call(params: Any) -> None:
    """Templates and loop variables."""
    assert faults(params, "builtin.transform") == {}
