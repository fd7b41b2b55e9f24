"""Secrets go into a call and come out of nothing."""

from __future__ import annotations

import json

import pytest

from orchestrator.substitute import compile_template, with_references
from persistence.errors import InvalidInput
from workers.mcp_client import ServerConfig
from workers.secrets import Secrets, redact, resolve_secrets
from workers.tools import configured_secrets

SECRET = 'p4ss"wörd\nline'


def test_references_are_resolved_anywhere_and_the_original_stays() -> None:
    """Nested in objects and lists; the stored arguments keep the reference."""
    arguments = {"auth": {"$secret": "A"}, "list": [{"$secret": "B"}, 1], "not": {"$secret": "A", "more": 1}}
    rendered = compile_template(arguments).render({})
    assert rendered == arguments == with_references(arguments)
    resolved = resolve_secrets(rendered, {"A": "a", "B": "b"}.get)
    assert resolve_secrets(with_references(arguments), {"A": "a", "B": "b"}.get) == resolved
    assert resolved == {"auth": "a", "list": ["b", 1], "not": {"$secret": "A", "more": 1}}
    assert rendered["auth"] == {"$secret": "A"}


@pytest.mark.parametrize("written", ["${answer}", {"deep": ["${answer}"]}, {"$secret": "${name}"}])
def test_what_a_tool_or_an_input_says_names_no_secret(written: object) -> None:
    """Only the definition does: what looks like a reference in a value is data, and so is a name that a value fills in."""
    scope = {"answer": {"$secret": "A"}, "name": "A"}
    rendered = compile_template({"value": written}).render(scope)
    assert resolve_secrets(rendered, {"A": "opened"}.get) == rendered
    assert "opened" not in str(resolve_secrets(rendered, {"A": "opened"}.get))


def test_all_unknown_names_are_reported_at_once() -> None:
    """One message names every missing secret."""
    with pytest.raises(InvalidInput, match="X, Y"):
        resolve_secrets(with_references({"a": {"$secret": "Y"}, "b": [{"$secret": "X"}]}), lambda _: None)


@pytest.mark.parametrize(
    "key",
    ["password", "Passwd", "client_secret", "Authorization", "api_key", "apiKey", "X-API-Key", "Cookie", "githubToken"],
)
def test_telling_keys_hide_their_texts(key: str) -> None:
    """Under such a key no text is shown, also deeper inside; a number may stay."""
    assert redact({key: "abc"}) == {key: "[redacted]"}
    assert redact({key: ["abc", {"x": "y"}]}) == {key: ["[redacted]", {"x": "[redacted]"}]}
    assert redact({key: 5}) == {key: 5}
    assert redact({key: {"$secret": "NAME"}}) == {key: {"$secret": "NAME"}}


def test_paging_tokens_stay() -> None:
    """Workflows need them, and they open no door."""
    assert redact({"nextPageToken": "abc", "total_tokens": 7}) == {"nextPageToken": "abc", "total_tokens": 7}


def test_known_values_are_blotted_out_wherever_they_stand() -> None:
    """In texts, keys, and in JSON inside a text, where quotes and line breaks look different."""
    known = [SECRET, "t0ken", "abc"]
    assert redact({"t0ken": f"x {SECRET} y"}, known) == {"[redacted]": "x [redacted] y"}
    assert SECRET not in redact(json.dumps({"env": SECRET}), known)
    assert "wörd" not in redact(json.dumps({"env": SECRET}, ensure_ascii=False), known)
    assert redact("abc is too short to be a secret", known) == "abc is too short to be a secret"


def test_the_longer_of_two_secrets_wins() -> None:
    """A secret that begins with another must not leave its tail behind."""
    assert redact("key-1234-5678", ["key-1234", "key-1234-5678"]) == "[redacted]"


def test_what_stands_written_out_in_a_configuration_is_secret_too() -> None:
    """Under a telling name; the token without its scheme as well."""
    config = ServerConfig(
        "s",
        command="x",
        env={"API_TOKEN": "literal-token", "PLAIN": "visible"},
        headers={"Authorization": "Bearer abcdef123", "X-Trace": "on"},
        secrets=("by-reference",),
    )
    expected = {"literal-token", "Bearer abcdef123", "abcdef123", "by-reference"}
    assert configured_secrets(config) == expected
    assert Secrets({}, configured_secrets(config)).blot("a literal-token, abcdef123, visible") == (
        "a [redacted], [redacted], visible"
    )
