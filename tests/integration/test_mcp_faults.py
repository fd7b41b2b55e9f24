"""Whatever a server does wrong lands in its failure class, in every era, and the next call works."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.outcome import Cancelled, Failed, Succeeded
from tests.integration.mcp_fault_server import FaultServer, fault_server
from workers.mcp_client import McpClient, ServerConfig
from workers.mcp_client.client import NOT_CALLED

N, U, F = "not_executed", "unknown", "definite"


@pytest.fixture(params=["modern", "legacy", "bare"])
def server(request: pytest.FixtureRequest) -> Iterator[FaultServer]:
    with fault_server(request.param) as running:
        yield running


@pytest.fixture
def client(server: FaultServer) -> Iterator[McpClient]:
    with McpClient({"s": ServerConfig("s", url=server.url, timeout=5, max_response_bytes=1_000_000)}) as client:
        yield client


FAULTS: list[tuple[str, dict[str, Any], str, str]] = [
    ("status", {"status": 429, "retry_after": "7"}, "rate_limited", N),
    ("status", {"status": 429}, "rate_limited", N),
    ("status", {"status": 503, "retry_after": "7"}, "rate_limited", N),
    ("status", {"status": 425}, "rate_limited", N),
    ("status", {"status": 503}, "http_error", U),
    ("status", {"status": 500, "body": "Traceback"}, "http_error", U),
    ("status", {"status": 502}, "http_error", U),
    ("status", {"status": 408}, "http_error", U),
    ("status", {"status": 401}, "http_error", F),
    ("status", {"status": 403}, "http_error", F),
    ("status", {"status": 415}, "http_error", F),
    ("status", {"status": 302}, "http_error", F),
    ("rpc_error", {"code": -32603}, "rpc_error", U),
    ("rpc_error", {"code": -32603, "status": 500}, "rpc_error", U),
    ("rpc_error", {"code": -32000, "status": 500}, "rpc_error", U),
    ("rpc_error", {"code": -32000}, "rpc_error", F),
    ("rpc_error", {"code": -32602, "message": "bad arguments"}, "rpc_error", F),
    ("rpc_error", {"code": -32602, "message": "Unknown tool: x"}, "tool_not_found", F),
    ("rpc_error", {"code": -32601}, "tool_not_found", F),
    ("rpc_error", {"code": -32023, "data": {"retryAfter": 7}}, "rate_limited", N),
    ("bytes", {"text": "{"}, "invalid_response", F),
    ("bytes", {"text": '{"jsonrpc":"2.0","id":NUMBER,"result":{"structuredContent":NaN}}'}, "invalid_response", F),
    ("bytes", {"text": '{"jsonrpc":"2.0","id":NUMBER,"result":{"structuredContent":Infinity}}'}, "invalid_response", F),
    ("bytes", {"text": '{"jsonrpc":"2.0","id":NUMBER,"result":{"structuredContent":"\xff"}}'}, "invalid_response", F),
    ("bytes", {"text": '{"jsonrpc":"2.0","id":NUMBER}'}, "invalid_response", F),
    ("bytes", {"text": "<html>hello</html>"}, "invalid_response", F),
    ("value", {"result": {"resultType": "input_required", "content": []}}, "protocol_error", F),
    ("value", {"result": {"resultType": "surprise", "content": []}}, "protocol_error", F),
    ("value", {"result": {"isError": True, "content": [{"type": "text", "text": "no"}]}}, "tool_error", F),
    ("wrong_id", {}, "protocol_error", F),
    ("accepted", {}, "protocol_error", F),
    ("large", {"bytes": 3_000_000}, "response_too_large", F),
    ("endless", {}, "response_too_large", F),
    ("endless", {"type": "text/event-stream"}, "response_too_large", F),
    ("reset", {}, "transport", U),
    ("half_body", {}, "transport", U),
    ("half_stream", {}, "transport", U),
]


@pytest.mark.parametrize(("tool", "arguments", "kind", "failure"), FAULTS)
def test_each_fault_lands_in_its_class_and_the_next_call_works(
    server: FaultServer, client: McpClient, tool: str, arguments: dict[str, Any], kind: str, failure: str
) -> None:
    """One call's trouble is its own: the tool ran at most once, and the client is as good as before."""
    outcome = client.call("s", tool, arguments)
    assert isinstance(outcome, Failed), outcome
    assert (outcome.kind, outcome.failure) == (kind, failure), outcome
    assert "\n" not in outcome.message
    assert server.executed.count(tool) == 1
    assert client.call("s", "ok", {"a": 1}) == Succeeded({"a": 1})


@pytest.mark.parametrize("arguments", [{"status": 429, "retry_after": "7"}, {"status": 503, "retry_after": "7"}])
def test_the_wait_a_server_asks_for_is_passed_on(client: McpClient, arguments: dict[str, Any]) -> None:
    """Retry-After arrives as seconds."""
    outcome = client.call("s", "status", arguments)
    assert isinstance(outcome, Failed)
    assert outcome.retry_after == 7


@pytest.mark.parametrize("tool", ["hang", "trickle"])
def test_the_wall_clock_ends_a_call(server: FaultServer, client: McpClient, tool: str) -> None:
    """Neither silence nor a comment every 50 ms keeps a call beyond its deadline; whether the tool ran is unknown."""
    begin = time.monotonic()
    outcome = client.call("s", tool, {}, timeout=0.4)
    assert 0.35 < time.monotonic() - begin < 1.0
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.failure) == ("timeout", U)
    assert client.call("s", "ok", {}) == Succeeded({})


@pytest.mark.parametrize("tool", ["hang", "trickle"])
def test_a_cancelled_call_ends_at_once(server: FaultServer, client: McpClient, tool: str) -> None:
    """Setting the event ends the wait within 0.3 s, long before the deadline."""
    client.call("s", "ok", {})
    cancelled = threading.Event()
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(client.call("s", tool, {}, cancelled=cancelled)))
    thread.start()
    server.wait_for(lambda entry: tool in str(entry.message.get("params")))
    begin = time.monotonic()
    cancelled.set()
    thread.join(5)
    assert time.monotonic() - begin < 0.3
    assert isinstance(found[0], Cancelled)
    assert found[0].failure == "unknown"
    assert client.call("s", "ok", {}) == Succeeded({})


def test_a_call_cancelled_before_it_began_sends_nothing(server: FaultServer, client: McpClient) -> None:
    """A step that is called off while it waited for its turn must not run."""
    cancelled = threading.Event()
    cancelled.set()
    assert client.call("s", "ok", {}, cancelled=cancelled) == NOT_CALLED
    assert server.executed == []


def test_a_call_off_counts_and_not_what_ends_meanwhile(client: McpClient) -> None:
    """A worker that stops calls its steps off, and closes its client soon after: that is no failure of theirs."""
    cancelled = threading.Event()
    client.close()
    refused = client.call("s", "ok", {}, cancelled=cancelled)
    assert isinstance(refused, Failed)
    assert (refused.kind, refused.failure) == ("transport", "not_executed")
    cancelled.set()
    assert client.call("s", "ok", {}, cancelled=cancelled) == NOT_CALLED


def test_an_event_stream_is_searched_for_the_answer(client: McpClient) -> None:
    """Comments, empty events and notifications are passed over."""
    assert client.call("s", "stream", {}) == Succeeded("ok")


def test_a_large_answer_within_the_limit_arrives(server: FaultServer) -> None:
    """3 MB in one line are fine under the default limit."""
    with McpClient({"s": ServerConfig("s", url=server.url)}) as client:
        outcome = client.call("s", "large", {"bytes": 3_000_000})
    assert isinstance(outcome, Succeeded)
    assert len(outcome.output) == 3_000_000


def test_values_arrive_exactly_as_the_server_said_them(client: McpClient) -> None:
    """Integers of any size and NUL characters are JSON; whether the ledger can hold them is the ledger's question."""
    value = '{"n":1267650600228229401496703205376,"z":"\\u0000"}'
    text = '{"jsonrpc":"2.0","id":NUMBER,"result":{"structuredContent":' + value + "}}"
    assert client.call("s", "bytes", {"text": text}) == Succeeded({"n": 2**100, "z": "\0"})
    assert client.call("s", "ok", {"n": 2**100}) == Succeeded({"n": 2**100})


def test_an_error_text_can_be_stored_whatever_a_server_puts_into_it(client: McpClient) -> None:
    """A text column holds neither NUL nor half a surrogate pair."""
    content = r'{"isError":true,"content":[{"type":"text","text":"a\u0000b\ud800c"}]}'
    outcome = client.call("s", "bytes", {"text": '{"jsonrpc":"2.0","id":NUMBER,"result":' + content + "}"})
    assert isinstance(outcome, Failed)
    assert outcome.message == "a\ufffdb\ufffdc"


def test_a_connection_that_the_server_closed_while_idle_is_not_used_again(
    server: FaultServer, client: McpClient
) -> None:
    """Otherwise the next call would be lost with an unknown outcome."""
    for _ in range(3):
        server.released.clear()
        assert client.call("s", "hangs_up", {}) == Succeeded("ok")
        assert server.released.wait(5)


def test_eight_threads_share_a_client(server: FaultServer, client: McpClient) -> None:
    """Each thread gets its own answers; one thread's resets do not disturb the others."""
    wrong: list[Any] = []

    def run(number: int) -> None:
        for turn in range(15):
            if number == 0:
                client.call("s", "reset", {})
            elif client.call("s", "ok", {"n": number, "t": turn}) != Succeeded({"n": number, "t": turn}):
                wrong.append((number, turn))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_nothing_listens(server: FaultServer) -> None:
    """A refused connection proves that nothing ran."""
    with McpClient({"s": ServerConfig("s", url="http://127.0.0.1:9/mcp")}) as client:
        outcome = client.call("s", "ok", {})
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.failure) == ("transport", N)


def test_a_call_after_close_is_refused(server: FaultServer, client: McpClient) -> None:
    """A thread that is late at shutdown gets a value, not an exception, and nothing is sent."""
    client.close()
    outcome = client.call("s", "ok", {})
    assert isinstance(outcome, Failed)
    assert outcome.failure == N
    assert server.executed == []


def test_max_inflight_holds(server: FaultServer) -> None:
    """With one place taken, another call waits and fails as not executed."""
    with McpClient({"s": ServerConfig("s", url=server.url, max_inflight=1)}) as client:
        thread = threading.Thread(target=lambda: client.call("s", "hang", {}))
        thread.start()
        server.wait_for(lambda entry: "hang" in str(entry.message.get("params")))
        outcome = client.call("s", "ok", {}, timeout=0.2)
        assert isinstance(outcome, Failed)
        assert (outcome.kind, outcome.failure) == ("timeout", N)
        server.released.set()
        thread.join(10)
    assert server.executed == ["hang"]
