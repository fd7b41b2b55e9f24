"""What a tool's result becomes as the output of a step."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from orchestrator.outcome import Failed, Succeeded
from workers.mcp_client.failures import Trouble
from workers.mcp_client.results import outcome_of

TEXT = {"type": "text", "text": "hello"}


def text(value: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": value}]}


@pytest.mark.parametrize(
    ("result", "output"),
    [
        ({"structuredContent": {"result": 3}, "content": [TEXT]}, {"result": 3}),
        ({"structuredContent": [1], "content": []}, [1]),
        ({"structuredContent": None, "content": [TEXT]}, None),
        (text('{"a": 1}'), {"a": 1}),
        (text("[1, 2]"), [1, 2]),
        (text("7"), 7),
        (text("true"), True),
        (text("null"), None),
        (text("[('a', 1)]"), "[('a', 1)]"),
        (text("NaN"), "NaN"),
        (text(""), ""),
        ({"content": []}, None),
        ({"content": [TEXT, TEXT]}, [TEXT, TEXT]),
        ({"content": [{"type": "resource_link", "uri": "file:///x", "name": "x", "icons": ["…"]}]},
         [{"type": "resource_link", "uri": "file:///x", "name": "x"}]),
        ({"content": [{"type": "resource", "resource": {"uri": "u", "mimeType": "text/plain", "text": "t"}}]},
         [{"type": "resource", "uri": "u", "mimeType": "text/plain", "text": "t"}]),
        ({"value": 1}, {"value": 1}),
        ([1, 2], [1, 2]),
    ],
)  # fmt: skip
def test_output(result: Any, output: Any) -> None:
    """Structured content as it is, else the only text as JSON or text, else the blocks."""
    assert outcome_of(result, "server s") == Succeeded(output)


@pytest.mark.parametrize(("size", "kept"), [(3, True), (200_000, False)])
def test_bulky_binary_is_reduced_to_its_digest(size: int, kept: bool) -> None:
    """An image keeps its bytes only while it is small."""
    raw = b"x" * size
    block = {"type": "image", "data": base64.b64encode(raw).decode(), "mimeType": "image/png"}
    outcome = outcome_of({"content": [block]}, "server s")
    assert isinstance(outcome, Succeeded)
    facts = {"type": "image", "mimeType": "image/png", "size": size, "sha256": hashlib.sha256(raw).hexdigest()}
    assert outcome.output == [facts | ({"data": block["data"]} if kept else {})]


def test_meta_is_kept_without_the_servers_identity() -> None:
    """Usage and cost stay; the picture that one server puts into its identity does not."""
    meta = {"io.modelcontextprotocol/serverInfo": {"icons": ["…"]}, "usageUsd": 1}
    assert outcome_of(text("1") | {"_meta": meta}, "server s") == Succeeded(1, {"usageUsd": 1})


def test_is_error_fails_with_its_text_and_keeps_its_output() -> None:
    """The tool's own words become the message, its structured content the output."""
    result = {"isError": True, "content": [TEXT, TEXT], "structuredContent": {"code": 5}}
    assert outcome_of(result, "server s") == Failed("tool_error", "hello\nhello", "definite", None, {"code": 5})


def test_a_question_to_a_person_fails_with_a_clear_word() -> None:
    """A tool that wants input in the middle of its call cannot be a step."""
    with pytest.raises(Trouble, match="asks for input from a person"):
        outcome_of({"resultType": "input_required", "inputRequests": []}, "server s")


def test_a_long_error_is_cut() -> None:
    """An error column is no place for megabytes."""
    outcome = outcome_of(text("x" * 1_000_000) | {"isError": True}, "server s")
    assert isinstance(outcome, Failed)
    assert len(outcome.message) < 2200
