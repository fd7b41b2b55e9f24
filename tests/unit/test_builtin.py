"""The server `builtin`: what its tools answer, and that its failures are those of any other server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from orchestrator.builtin_tools import BUILTIN, TOOLS
from orchestrator.outcome import Cancelled, Failed, Succeeded
from persistence.errors import InvalidInput
from workers.mcp_client import McpClient, ServerConfig
from workers.secrets import Secrets
from workers.tools import Tools, listed_annotations


@pytest.fixture
def client() -> Iterator[McpClient]:
    with McpClient({}) as client:
        yield client


class CancelledMeanwhile(threading.Event):
    """Somebody sets it while it is waited for."""

    def wait(self, timeout: float | None = None) -> bool:
        self.waited = timeout
        self.set()
        return True


ANSWERS: list[tuple[str, dict[str, Any], Any]] = [
    ("echo", {}, {}),
    ("echo", {"a": [1, {"b": None}], "tool": "x"}, {"a": [1, {"b": None}], "tool": "x"}),
    ("sleep", {"seconds": 0}, {"slept": 0}),
    ("sleep", {"seconds": 0.001}, {"slept": 0.001}),
    ("sleep", {"seconds": 0, "value": [1]}, [1]),
    ("sleep", {"seconds": 0, "value": None}, None),
    ("transform", {"expression": "1 + 1"}, {"result": 2}),
    ("transform", {"expression": "xs.filter(x, x > least)", "with": {"xs": [1, 2, 3], "least": 1}}, {"result": [2, 3]}),
    ("transform", {"expression": "a.b === 'c'", "with": {"a": {"b": "c"}}}, {"result": True}),
]


@pytest.mark.parametrize(("tool", "arguments", "answer"), ANSWERS)
def test_a_tool_answers_as_its_schemas_say(client: McpClient, tool: str, arguments: Any, answer: Any) -> None:
    """The same value, and no more."""
    assert client.call(BUILTIN, tool, arguments) == Succeeded(answer)
    Draft202012Validator(TOOLS[tool]["inputSchema"]).validate(arguments)
    Draft202012Validator(TOOLS[tool]["outputSchema"]).validate(answer)


REFUSED: list[tuple[str, Any, str]] = [
    ("sleep", {}, "seconds"),
    ("sleep", {"seconds": "1"}, "seconds"),
    ("sleep", {"seconds": True}, "seconds"),
    ("sleep", {"seconds": -1}, "seconds"),
    ("sleep", {"seconds": 86_401}, "seconds"),
    ("sleep", {"seconds": 1, "ms": 1}, "ms"),
    ("fail", {"kind": "surprise"}, "kind"),
    ("fail", {"message": 1}, "message"),
    ("transform", {}, "expression"),
    ("transform", {"expression": ""}, "expression"),
    ("transform", {"expression": "a", "with": [1]}, "with"),
    ("transform", {"expression": "a", "with_": {"a": 1}}, "with_"),
]


@pytest.mark.parametrize(("tool", "arguments", "name"), REFUSED)
def test_arguments_that_the_schema_refuses_are_refused(client: McpClient, tool: str, arguments: Any, name: str) -> None:
    """By the name of what is wrong, and never called again."""
    assert not Draft202012Validator(TOOLS[tool]["inputSchema"]).is_valid(arguments)
    outcome = client.call(BUILTIN, tool, arguments)
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.failure) == ("invalid_params", "definite")
    assert f"{name}: " in outcome.message


@pytest.mark.parametrize(
    ("expression", "values", "words"),
    [
        ("a +", {}, "ends too early, at character 4"),
        ("a.b", {"a": {}}, "a has no b"),
        ("1 / n", {"n": 0}, "divide by zero"),
        ("a.all(x, a.all(y, t.contains(u)))", {"a": [1] * 90, "t": "x" * 100_000, "u": "y" * 9_000}, "too much work"),
    ],
)
def test_an_expression_without_a_value_says_why(client: McpClient, expression: str, values: Any, words: str) -> None:
    """Also one that would take too long, before it starts."""
    outcome = client.call(BUILTIN, "transform", {"expression": expression, "with": values})
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.failure) == ("invalid_params", "definite")
    assert words in outcome.message


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("tool_error", "definite"),
        ("invalid_response", "definite"),
        ("rate_limited", "not_executed"),
        ("transport", "unknown"),
    ],
)
def test_a_failure_on_purpose_has_the_class_of_a_real_one(client: McpClient, kind: str, failure: Any) -> None:
    """And the words it was given."""
    assert client.call(BUILTIN, "fail", {"kind": kind, "message": "so"}) == Failed(kind, "so", failure)
    assert client.call(BUILTIN, "fail", {}) == Failed("tool_error", "failed on purpose", "definite")


def test_a_tool_that_is_not_there_is_not_found(client: McpClient) -> None:
    """As with any server."""
    outcome = client.call(BUILTIN, "nope", {})
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.failure) == ("tool_not_found", "definite")


def test_the_deadline_ends_a_sleep(client: McpClient) -> None:
    """An outcome nobody knows, as of any call that was waited for in vain; a call that comes too late is not made."""
    late = client.call(BUILTIN, "sleep", {"seconds": 60}, timeout=0.02)
    assert late == Failed("timeout", "server builtin did not answer within 0.02 s", "unknown")
    never = client.call(BUILTIN, "echo", {}, timeout=0)
    assert isinstance(never, Failed)
    assert (never.kind, never.failure) == ("timeout", "not_executed")


def test_a_cancellation_ends_a_sleep_at_once(client: McpClient) -> None:
    """The sleep waits for nothing else meanwhile, however long it is."""
    cancelled = CancelledMeanwhile()
    assert client.call(BUILTIN, "sleep", {"seconds": 60}, cancelled=cancelled) == Cancelled(
        "cancelled while the tool was called"
    )
    assert cancelled.waited == pytest.approx(60, abs=5)
    assert isinstance(client.call(BUILTIN, "echo", {}, cancelled=cancelled), Cancelled)


def test_an_echo_is_not_the_callers_own_object(client: McpClient) -> None:
    """A later change of the arguments does not change the answer."""
    arguments = {"a": 1}
    outcome = client.call(BUILTIN, "echo", arguments)
    arguments["a"] = 2
    assert outcome == Succeeded({"a": 1})


def test_it_is_listed_and_closed_like_any_server() -> None:
    """Its tools, its health, and nothing after the end."""
    with McpClient({}) as client:
        assert list(client.servers) == [BUILTIN]
        assert [tool["name"] for tool in client.list_tools(BUILTIN)] == ["echo", "fail", "sleep", "transform"]
        health = client.server_health(BUILTIN)
        assert (health.reachable, health.era, health.tools) == (True, "in-process", 4)
    outcome = client.call(BUILTIN, "echo", {})
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.failure) == ("transport", "not_executed")


def test_no_other_server_has_its_name() -> None:
    """Not in Python either; for files see test_mcp_config.py."""
    with pytest.raises(InvalidInput, match="every installation has"):
        McpClient({BUILTIN: ServerConfig(BUILTIN, url="https://example.com/mcp")})


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_may_be_repeated(client: McpClient, tool: str) -> None:
    """Unless the step says otherwise."""
    tools = Tools(client, Secrets({}), listed_annotations(client), 1000)
    assert tools.may_repeat(BUILTIN, tool, None)
    assert not tools.may_repeat(BUILTIN, tool, False)


def test_a_secret_stays_a_reference(client: McpClient) -> None:
    """An expression could tell its letters apart, one bit at a time."""
    tools = Tools(client, Secrets({"S": "t0psecret"}), listed_annotations(client), 1000)
    reference = {"$secret": "S"}
    assert tools.call(BUILTIN, "echo", {"a": reference}) == Succeeded({"a": reference})
    asked = {"expression": "a == 't0psecret'", "with": {"a": reference}}
    assert tools.call(BUILTIN, "transform", asked) == Succeeded({"result": False})
