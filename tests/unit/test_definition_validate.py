"""Validation: every definition of the original passes, and every fault is named where it is, all in one answer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.parse import parse_document
from orchestrator.validate import validate
from persistence.errors import Fault, InvalidDefinition

ORIGINALS = sorted((Path(__file__).parent.parent / "fixtures" / "original").glob("*.json"))


def step(**changes: Any) -> dict[str, Any]:
    """A valid step, changed."""
    return {"name": "a", "tool": "srv.tool", "params": {}, **changes}


def faults_of(document: Any, **known: Any) -> tuple[Fault, ...]:
    with pytest.raises(InvalidDefinition) as caught:
        validate(document, **known)
    str(caught.value).encode()
    return caught.value.faults


@pytest.mark.parametrize("path", ORIGINALS, ids=lambda path: path.stem)
def test_definitions_of_the_original_are_valid(path: Path) -> None:
    """They pass with nothing known, with everything known, and through YAML."""
    document = parse_document(path.read_bytes(), source=path.name)
    servers = ["github", "deploy", "observability", "agent"]
    assert validate(document) == validate(document, servers=servers, context_keys=["repo"])
    assert validate(parse_document(path.read_text(), source="x.yaml")) == validate(document)


def test_the_originals_are_all_there() -> None:
    """The folder is not empty, so the test above tests something."""
    assert len(ORIGINALS) == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"tool": "files-2.dir/read.all-now"},
        {"if": "${x.y[0].z === 'b'}"},
        {"condition": "${x} !== 'b' && size(input.list) > 0"},
        {"retry": {}},
        {
            "retry": {
                "maxAttempts": 10,
                "backoff": "linear",
                "backoffMultiplier": 1,
                "initialDelayMs": 100,
                "maxDelayMs": 1000,
            }
        },
        {"retry": {"initialDelayMs": 120_000}},
        {"retry": {"maxAttempts": 3.0, "backoffMultiplier": 1.5}},
        {"timeoutMs": 1, "title": "Würfel", "idempotent": False},
        {"params": {"a": "${input['any key']} $${literal} ${variables.x.y}", "b": [None, 1.5, 2**80], "${x": 1}},
        {"assign": "package"},
    ],
)
def test_what_the_language_allows_passes(changes: dict[str, Any]) -> None:
    """Each of these is one corner of the language."""
    assert validate({"steps": [step(**changes)]}).steps[0].name == "a"


@pytest.mark.parametrize(
    ("changes", "pointer", "words", "hint"),
    [
        ({"parms": {}}, "/steps/0/parms", "unknown key “parms”", "did you mean “params”?"),
        ({"timeout_ms": 5}, "/steps/0/timeout_ms", "unknown key", "did you mean “timeoutMs”?"),
        ({"needs": []}, "/steps/0/needs", "unknown key", "known keys: name, tool, params"),
        ({"name": "Fetch"}, "/steps/0/name", "“Fetch” is not a name", "lower-case letters"),
        ({"name": "a\n"}, "/steps/0/name", "“a\\u000a” is not a name", ""),
        ({"name": "a\0"}, "/steps/0/name", "NUL", ""),
        ({"name": ""}, "/steps/0/name", "is not a name", ""),
        ({"name": "a" * 256}, "/steps/0/name", "at most 255 characters, not 256", ""),
        ({"name": 5}, "/steps/0/name", "must be text, not the number 5", ""),
        ({"tool": "github"}, "/steps/0/tool", "“github” has no dot", "server.tool"),
        ({"tool": ".x"}, "/steps/0/tool", "nothing before its first dot", ""),
        ({"tool": "x."}, "/steps/0/tool", "nothing after its first dot", ""),
        ({"tool": "GitHub.x"}, "/steps/0/tool", "is not a tool", "the server is lower-case"),
        ({"params": []}, "/steps/0/params", "must be an object, not a list", ""),
        ({"params": None}, "/steps/0/params", "must be an object, not null", ""),
        ({"assign": None}, "/steps/0/assign", "must not be null", "leave the key out"),
        ({"assign": "Issue"}, "/steps/0/assign", "is not a name", ""),
        ({"assign": "input"}, "/steps/0/assign", "“input” is reserved", ""),
        ({"assign": "variables"}, "/steps/0/assign", "“variables” is reserved", ""),
        ({"assign": "true"}, "/steps/0/assign", "“true” is reserved", ""),
        ({"if": ""}, "/steps/0/if", "must not be empty", ""),
        ({"if": " "}, "/steps/0/if", "the condition is empty", ""),
        ({"if": True}, "/steps/0/if", "must be text, not true", ""),
        ({"if": "${x"}, "/steps/0/if", "${ is not closed by a }, at character 1", "$${"),
        ({"if": "${x ==}"}, "/steps/0/if", "ends too early, at character 7", ""),
        ({"condition": "x and y"}, "/steps/0/condition", "unexpected 'and', at character 3", ""),
        ({"if": "a", "condition": "a"}, "/steps/0/condition", "a step has one of the two", ""),
        ({"params": {"a": "x ${y"}}, "/steps/0/params/a", "${ is not closed by a }, at character 3", "$${"),
        ({"params": {"a": "${}"}}, "/steps/0/params/a", "${} names nothing, at character 1", "$${"),
        ({"params": {"a": "${HOME:-x}"}}, "/steps/0/params/a", "unexpected ':', at character 7", "$${"),
        ({"params": {"a": "${x + 'y}"}}, "/steps/0/params/a", "at character 7", "not closed"),
        ({"params": {"a": "${nosuch(1)}"}}, "/steps/0/params/a", "there is no function 'nosuch'", ""),
        ({"params": {"a": ["${x y}"]}}, "/steps/0/params/a/0", "unexpected", ""),
        ({"params": {"a/b": {"~": "${"}}}, "/steps/0/params/a~1b/~0", "not closed", ""),
        ({"params": {"a": "${variables}"}}, "/steps/0/params/a", "alone is not a value", "${variables.name}"),
        ({"params": {"a": "x\0"}}, "/steps/0/params/a", "NUL character (\\u0000) at character 2", ""),
        ({"params": {"a": "\ud800"}}, "/steps/0/params/a", "surrogate", ""),
        ({"params": {"a": float("nan")}}, "/steps/0/params/a", "not a number that JSON knows", ""),
        ({"params": {"a": (1,)}}, "/steps/0/params/a", "a Python tuple is not JSON", ""),
        ({"params": {1: "x"}}, "/steps/0/params", "the key 1 is a number, not text", ""),
        ({"retry": 3}, "/steps/0/retry", "must be an object, not the number 3", ""),
        ({"retry": {"maxAttempts": 0}}, "/steps/0/retry/maxAttempts", "at least 1, not 0", ""),
        ({"retry": {"maxAttempts": 11}}, "/steps/0/retry/maxAttempts", "at most 10, not 11", ""),
        ({"retry": {"maxAttempts": 2.5}}, "/steps/0/retry/maxAttempts", "whole number, not the number 2.5", ""),
        ({"retry": {"maxAttempts": True}}, "/steps/0/retry/maxAttempts", "whole number, not true", ""),
        ({"retry": {"maxAttempts": "3"}}, "/steps/0/retry/maxAttempts", "whole number, not the text “3”", ""),
        (
            {"retry": {"backoff": "expnential"}},
            "/steps/0/retry/backoff",
            "not “expnential”",
            "did you mean “exponential”?",
        ),
        ({"retry": {"backoffMultiplier": 0.5}}, "/steps/0/retry/backoffMultiplier", "at least 1, not 0.5", ""),
        ({"retry": {"backoffMultiplier": 10**400}}, "/steps/0/retry/backoffMultiplier", "too large a number", ""),
        ({"retry": {"initialDelayMs": 99}}, "/steps/0/retry/initialDelayMs", "at least 100, not 99", ""),
        ({"retry": {"maxDelayMs": 999}}, "/steps/0/retry/maxDelayMs", "at least 1,000, not 999", ""),
        ({"retry": {"delay": 1}}, "/steps/0/retry/delay", "unknown key", "known keys: maxAttempts, backoff"),
        (
            {"retry": {"initialDelayMs": 5000, "maxDelayMs": 2000}},
            "/steps/0/retry/maxDelayMs",
            "less than initialDelayMs (2000 < 5000)",
            "",
        ),
        ({"timeoutMs": 0}, "/steps/0/timeoutMs", "at least 1, not 0", ""),
        ({"timeoutMs": 2**31}, "/steps/0/timeoutMs", "at most 2,147,483,647", ""),
        ({"title": ""}, "/steps/0/title", "must not be empty", ""),
        ({"idempotent": "yes"}, "/steps/0/idempotent", "must be true or false, not the text “yes”", ""),
    ],
)
def test_a_fault_of_a_step_is_named_where_it_is(changes: dict[str, Any], pointer: str, words: str, hint: str) -> None:
    """One thing is wrong, one fault comes back, with its pointer and what to do."""
    (fault,) = faults_of({"steps": [step(**changes)]})
    assert fault.pointer == pointer
    assert words in fault.message
    assert hint in fault.hint


@pytest.mark.parametrize(
    ("document", "pointer", "words"),
    [
        (None, "", "must be an object, not null"),
        ([], "", "must be an object, not a list"),
        ("steps", "", "must be an object, not the text “steps”"),
        ({}, "", "the key “steps” is missing"),
        ({"steps": []}, "/steps", "at least one step"),
        ({"steps": {}}, "/steps", "must be a list, not an object"),
        ({"steps": [7]}, "/steps/0", "must be an object, not the number 7"),
        ({"steps": [{"name": "a", "tool": "a.b"}]}, "/steps/0", "the key “params” is missing"),
        ({"steps": [step()], "stpes": []}, "/stpes", "unknown key “stpes”"),
        ({"steps": [step()], "name": "Big Name"}, "/name", "is not a name"),
        ({"steps": [step()], "description": 5}, "/description", "must be text"),
        ({"steps": [step()], "config": []}, "/config", "must be an object"),
        ({"steps": [step()], "config": {"continueOnError": "yes"}}, "/config/continueOnError", "true or false"),
        ({"steps": [step()], "config": {"timeoutMs": 999}}, "/config/timeoutMs", "at least 1,000"),
        ({"steps": [step()], "config": {"maxRetries": -1}}, "/config/maxRetries", "at least 0"),
        ({"steps": [step()], "config": {"maxRetries": 101}}, "/config/maxRetries", "at most 100"),
        ({"steps": [step()], "config": {"retries": 1}}, "/config/retries", "unknown key"),
        (
            {"steps": [step()], "inputSchema": {"properties": {"a": {"type": 3}}}},
            "/inputSchema/properties/a/type",
            "schema",
        ),
        ({"steps": [step()], "inputSchema": []}, "/inputSchema", "must be an object"),
        ({"steps": [step()], "inputSchema": {"$schema": []}}, "/inputSchema/$schema", "not a JSON Schema"),
        ({"steps": [step()], "inputSchema": {"pattern": "("}}, "/inputSchema/pattern", "not a JSON Schema"),
        ({"steps": [step(name=f"s{n}") for n in range(10_001)]}, "/steps", "at most 10,000 steps"),
        ({"steps": [step(), step()]}, "/steps/1/name", "“a” is already the name of /steps/0"),
        ({"steps": [step(assign="x"), step(name="b", assign="x")]}, "/steps/1/assign", "already assigned by /steps/0"),
    ],
)
def test_a_fault_of_the_document_is_named_where_it_is(document: Any, pointer: str, words: str) -> None:
    """What is missing is reported at the object that lacks it, everything else at itself."""
    (fault,) = faults_of(document)
    assert fault.pointer == pointer
    assert words in fault.message


def test_all_faults_come_in_one_answer_in_document_order() -> None:
    """Wrong keys, wrong values, unknown variables and servers do not hide one another."""
    document = {
        "steps": [
            {"tool": "gh", "name": "A", "retry": {"maxAttempts": 11, "x": 1}, "if": "${"},
            step(tool="githb.x", params={"b": "${later}", "a": ["${nope}", "\0"]}, assign="self"),
            step(assign="later", extra=1),
            3,
        ],
        "config": {"maxRetries": -1},
        "nmae": "x",
    }
    faults = faults_of(document, servers=["github", "srv"], context_keys=["repo"])
    assert [fault.pointer for fault in faults] == [
        "/steps/0",
        "/steps/0/tool",
        "/steps/0/name",
        "/steps/0/retry/maxAttempts",
        "/steps/0/retry/x",
        "/steps/0/if",
        "/steps/1/tool",
        "/steps/1/params/b",
        "/steps/1/params/a/0",
        "/steps/1/params/a/1",
        "/steps/2/name",
        "/steps/2/extra",
        "/steps/3",
        "/config/maxRetries",
        "/nmae",
    ]


def test_servers_are_checked_only_when_they_are_known() -> None:
    """Without a list any server passes; with one, the hint says which are configured and which was meant."""
    document = {"steps": [step(tool="githb.getIssue")]}
    validate(document)
    (fault,) = faults_of(document, servers=["github", "deploy"])
    assert fault.pointer == "/steps/0/tool"
    assert fault.hint == "did you mean “github”? configured: deploy, github"
    (fault,) = faults_of(document, servers=[])
    assert fault.hint == "no server is configured"


def reads(text: str) -> dict[str, Any]:
    """A workflow whose middle step reads `text`."""
    return {
        "steps": [
            step(name="fetch", assign="issue"),
            step(name="read", params={"x": text}, assign="own"),
            step(name="last", assign="later"),
        ]
    }


@pytest.mark.parametrize(
    "text", ["${issue.a}", "${input.a}", "${variables.issue.a}", "${repo.a}", "${issue.a + repo.b}"]
)
def test_variables_that_are_there_pass(text: str) -> None:
    """Earlier steps, the input and the context may be read, whether the context is known or not."""
    validate(reads(text))
    validate(reads(text), context_keys=["repo"])


@pytest.mark.parametrize(
    ("text", "known", "words", "hint"),
    [
        ("${later.a}", None, "“later” is assigned only by a later step, /steps/2", "move that step up"),
        ("${later.a}", ["repo"], "“later” is assigned only by a later step, /steps/2", ""),
        ("a ${own} b", None, "“own” is assigned only by this step itself", ""),
        ("${input.n + later}", None, "“later” is assigned only by a later step", ""),
        ("${'${later}' == 'x'}", None, "“later” is assigned only by a later step", ""),
        ("${has(later.x)}", None, "“later” is assigned only by a later step", ""),
        ("${issue-1}", None, "“issue-1” is read as one name", "spaces around the minus sign"),
        ("${isue.a}", ["repo"], "no earlier step assigns “isue”", "did you mean “issue”?"),
        ("${fetch.a}", ["repo"], "no earlier step assigns “fetch”", "the step of that name assigns “issue”"),
        ("${repo.a}", [], "no earlier step assigns “repo” and the context has no such key", ""),
    ],
)
def test_variables_that_cannot_be_there_are_faults(text: str, known: list[str] | None, words: str, hint: str) -> None:
    """A name that only a later step assigns is wrong in any case, an unknown one only when the context is known."""
    (fault,) = faults_of(reads(text), context_keys=known)
    assert fault.pointer == "/steps/1/params/x"
    assert words in fault.message
    assert hint in fault.hint


def test_an_unknown_name_is_taken_for_the_contexts_when_that_is_not_known() -> None:
    """Nobody can tell yet, so it passes."""
    validate(reads("${whatever.a}"))


def test_a_key_of_the_context_may_be_read_before_a_step_assigns_it() -> None:
    """The context's own value is there from the start."""
    validate(reads("${later}"), context_keys=["later"])


def test_a_local_name_of_a_macro_is_not_a_variable() -> None:
    """`x` in `exists(x, …)` need not be assigned, but outside the macro it must be."""
    validate(reads("${issue.labels.exists(x, x.name == input.name)}"), context_keys=[])
    (fault,) = faults_of(reads("${issue.labels.exists(x, x == 1) && x}"), context_keys=[])
    assert "“x”" in fault.message


def test_depth_without_end_is_a_fault() -> None:
    """A document built in memory may be nested a hundred thousand times."""
    deep: dict[str, Any] = {}
    innermost = deep
    for _ in range(100_000):
        innermost["x"] = innermost = {}
    (fault,) = faults_of({"steps": [step(params=deep)]})
    assert "deeper than 100 levels" in fault.message


def test_ten_thousand_wrong_steps_are_all_named_in_seconds() -> None:
    """The time does not grow faster than the faults."""
    steps = [step(name=f"s{n}", params={"a": f"${{w{n}}}"}, assign=f"v{n}", iff=1) for n in range(10_000)]
    started = time.process_time()
    faults = faults_of({"steps": steps}, context_keys=["repo"], servers=["x"])
    assert len(faults) == 30_000
    assert time.process_time() - started < 15


def test_validation_keeps_the_document_as_it_is() -> None:
    """The workflow holds the params as given, and the document is not changed."""
    document = {"steps": [step(params={"b": [1, {"c": "${input.x}"}], "a": 2**70})]}
    before = json.dumps(document)
    workflow = validate(document)
    assert list(workflow.steps[0].params.items()) == list(document["steps"][0]["params"].items())
    assert json.dumps(document) == before
