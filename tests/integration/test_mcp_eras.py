"""The client finds out what a server speaks, without ever trying a tool, and keeps to that era's rules."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from orchestrator.outcome import Failed, Succeeded
from persistence.errors import NotFound, Unreachable
from tests.integration.mcp_fault_server import FaultServer, Handler, Seen, fault_server
from workers.mcp_client import McpClient, ServerConfig

REGION = {
    "name": "ok",
    "inputSchema": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}},
}


def client_of(server: FaultServer, **settings: Any) -> McpClient:
    return McpClient({"s": ServerConfig("s", url=server.url, timeout=5, **settings)})


def calls(server: FaultServer) -> list[Seen]:
    return [entry for entry in server.seen if entry.method == "tools/call"]


@pytest.mark.parametrize(
    ("era", "spoken"),
    [
        ("modern", ["server/discover", "tools/list", "tools/call", "tools/call"]),
        ("legacy", ["server/discover", "initialize", "notifications/initialized", "tools/call", "tools/call"]),
        ("bare", ["server/discover", "initialize", "tools/call", "tools/call"]),
    ],
)
def test_the_era_is_found_once(era: str, spoken: list[str]) -> None:
    """Two calls ask once what the server speaks, and the tool runs exactly twice."""
    with fault_server(era) as server:
        with client_of(server) as client:
            assert client.call("s", "ok", {"a": 1}) == Succeeded({"a": 1})
            assert client.call("s", "ok", {"a": 2}) == Succeeded({"a": 2})
        assert [method for method in server.methods() if method != "DELETE"] == spoken


@pytest.mark.parametrize(
    ("era", "pin", "first"),
    [
        ("modern", "2026-07-28", "tools/list"),
        ("legacy", "legacy", "initialize"),
        ("bare", "jsonrpc", "tools/call"),
    ],
)
def test_a_pinned_protocol_asks_no_questions(era: str, pin: str, first: str) -> None:
    """The configuration key `protocol` skips the detection."""
    with fault_server(era) as server, client_of(server, protocol=pin) as client:
        assert client.call("s", "ok", {}) == Succeeded({})
        assert server.methods()[0] == first


def test_threads_that_come_together_detect_once() -> None:
    """Eight first calls at the same time make one handshake."""
    with fault_server("legacy") as server, client_of(server) as client:
        threads = [threading.Thread(target=client.call, args=("s", "ok", {})) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert server.methods().count("initialize") == 1
        assert server.executed == ["ok"] * 8


def test_a_modern_request_carries_version_identity_key_and_trace() -> None:
    """Everything the protocol wants in `_meta` and headers, and ours beside it."""
    trace = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    with fault_server("modern") as server, client_of(server, headers={"X-Secret": "s3"}) as client:
        client.call("s", "ok", {}, idempotency_key="run:step", meta={"traceparent": trace, "a.b/c": 1})
        call = calls(server)[0]
    meta = call.message["params"]["_meta"]
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert meta["io.modelcontextprotocol/clientInfo"]["name"] == "afu9"
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {}
    assert (meta["afu9.dev/idempotency-key"], meta["traceparent"], meta["a.b/c"]) == ("run:step", trace, 1)
    sent = call.headers
    assert (sent["mcp-protocol-version"], sent["mcp-method"], sent["mcp-name"]) == ("2026-07-28", "tools/call", "ok")
    assert (sent["idempotency-key"], sent["traceparent"], sent["x-secret"]) == ("run:step", trace, "s3")


@pytest.mark.parametrize("era", ["legacy", "bare"])
def test_older_eras_carry_the_key_and_the_trace_too(era: str) -> None:
    """The idempotency key is sent twice in every era."""
    with fault_server(era) as server, client_of(server) as client:
        client.call("s", "ok", {}, idempotency_key="schlüssel\r\nX-Evil: 1", meta={"traceparent": "00-1"})
        call = calls(server)[0]
    assert call.message["params"]["_meta"] == {
        "afu9.dev/idempotency-key": "schlüssel\r\nX-Evil: 1",
        "traceparent": "00-1",
    }
    assert call.headers["idempotency-key"].startswith("=?base64?")
    assert "x-evil" not in call.headers


def test_a_bare_server_gets_the_name_twice() -> None:
    """Some read params.tool, others params.name."""
    with fault_server("bare") as server, client_of(server) as client:
        client.call("s", "ok", {"a": 1})
        assert calls(server)[0].message["params"] == {"name": "ok", "tool": "ok", "arguments": {"a": 1}}


def test_marked_arguments_travel_as_headers() -> None:
    """The tools are listed before the first call, because the headers need their schemas."""
    with fault_server("modern") as server, client_of(server) as client:
        server.tools = [REGION]
        client.call("s", "ok", {"region": "eu"})
        client.call("s", "ok", {"region": "zürich"})
        first, second = calls(server)
    assert first.headers["mcp-param-region"] == "eu"
    assert second.headers["mcp-param-region"] == "=?base64?esO8cmljaA==?="


def test_a_header_mismatch_is_repaired_by_listing_again() -> None:
    """The server changed a tool after we listed it: its objection makes us look again and send once more."""
    with fault_server("modern") as server, client_of(server) as client:
        client.call("s", "ok", {})
        server.tools = [REGION]
        original = Handler.tool_ok

        def strict(self: Handler, arguments: dict[str, Any]) -> None:
            if self.headers.get("mcp-param-region") != "eu":
                return self.error(-32020, "Header mismatch", 400)
            return original(self, arguments)

        Handler.tool_ok = strict  # type: ignore[method-assign]
        try:
            assert client.call("s", "ok", {"region": "eu"}) == Succeeded({"region": "eu"})
        finally:
            Handler.tool_ok = original  # type: ignore[method-assign]
        assert server.methods()[-3:] == ["tools/call", "tools/list", "tools/call"]


def test_an_unsupported_version_is_answered_with_one_that_is_supported() -> None:
    """-32022 names what the server speaks; if that is ours, the request is sent once more."""
    refusals = iter([True])
    with fault_server("modern") as server, client_of(server) as client:
        original = Handler.tool_ok

        def choosy(self: Handler, arguments: dict[str, Any]) -> None:
            if next(refusals, False):
                return self.error(-32022, "Unsupported", 400, {"supported": ["2026-07-28"], "requested": "x"})
            return original(self, arguments)

        Handler.tool_ok = choosy  # type: ignore[method-assign]
        try:
            assert client.call("s", "ok", {}) == Succeeded({})
        finally:
            Handler.tool_ok = original  # type: ignore[method-assign]


def test_a_server_of_the_future_is_refused_clearly() -> None:
    """A server that shares no version with us gets a sentence, and no tool is called."""

    def future(handler: Handler) -> bool:
        handler.error(-32022, "Unsupported protocol version", 400, {"supported": ["2031-01-01"]})
        return True

    with fault_server("modern") as server, client_of(server) as client:
        server.handshake = future
        outcome = client.call("s", "ok", {})
    assert isinstance(outcome, Failed)
    assert "speaks only 2031-01-01" in outcome.message
    assert server.methods() == ["server/discover"]


def test_http_with_sse_is_named_as_not_supported() -> None:
    """The transport of 2024-11-05 gets a sentence that says what to configure instead."""

    def refuse(handler: Handler) -> bool:
        handler.plain(405)
        return True

    def endpoint(self: Handler) -> None:
        self.stream(b"event: endpoint\ndata: /messages?id=1\n\n")

    original = Handler.do_GET
    Handler.do_GET = endpoint  # type: ignore[method-assign]
    try:
        with fault_server("legacy") as server, client_of(server) as client:
            server.handshake = refuse
            outcome = client.call("s", "ok", {})
    finally:
        Handler.do_GET = original  # type: ignore[method-assign]
    assert isinstance(outcome, Failed)
    assert "HTTP+SSE" in outcome.message
    assert outcome.failure == "definite"


@pytest.mark.parametrize("loss_status", [404, 400])
def test_a_lost_session_is_repaired_once_for_all_threads(loss_status: int) -> None:
    """The server forgets its sessions under eight threads that call: nobody notices, nothing runs twice."""
    wrong: list[Any] = []
    with fault_server("legacy") as server, client_of(server) as client:
        server.loss_status = loss_status
        client.call("s", "ok", {})
        barrier = threading.Barrier(9)

        def run(number: int) -> None:
            for turn in range(10):
                if turn == 5:
                    barrier.wait(10)
                    barrier.wait(10)
                outcome = client.call("s", "ok", {"n": number})
                if outcome != Succeeded({"n": number}):
                    wrong.append(outcome)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        barrier.wait(10)
        server.sessions.clear()
        barrier.wait(10)
        for thread in threads:
            thread.join(20)
        assert wrong == []
        assert server.methods().count("initialize") == 2
        assert len(server.executed) == 81


@pytest.mark.parametrize("era", ["bare", "legacy"])
def test_a_404_without_a_session_is_a_wrong_address(era: str) -> None:
    """Only a server that gave us a session can have lost it: nothing is sent again."""
    with fault_server(era) as server, client_of(server) as client:
        server.sessionless = True
        outcome = client.call("s", "status", {"status": 404})
        assert isinstance(outcome, Failed)
        assert (outcome.kind, outcome.failure) == ("http_error", "definite")
        assert server.executed == ["status"]


def test_close_ends_the_session() -> None:
    """A server that keeps state for us is told that it is over."""
    with fault_server("legacy") as server:
        with client_of(server) as client:
            client.call("s", "ok", {})
            assert len(server.sessions) == 1
        assert server.sessions == set()


def test_a_stateful_server_is_told_when_nobody_waits_any_more() -> None:
    """Without the notice the tool would run to its end for nobody."""
    with fault_server("legacy") as server, client_of(server) as client:
        client.call("s", "hang", {}, timeout=0.3)
        number = calls(server)[0].message["id"]
        notice = server.wait_for(lambda entry: entry.method == "notifications/cancelled")
        assert notice.message["params"]["requestId"] == number
        assert "mcp-session-id" in notice.headers


def test_requests_of_the_server_are_answered() -> None:
    """A ping is answered, everything else refused; unanswered they would hold the tool until the deadline."""
    with fault_server("legacy") as server, client_of(server) as client:
        assert client.call("s", "asks", {}) == Succeeded({"ping": {}, "other": -32601})


def test_a_broken_stream_is_resumed() -> None:
    """The server closed the stream after an event id: the client asks for the rest, and the tool runs once."""
    with fault_server("legacy") as server, client_of(server) as client:
        assert client.call("s", "resumable", {}) == Succeeded("resumed")
        assert server.executed.count("resumable") == 1


def test_a_stream_that_cannot_be_resumed_has_an_unknown_outcome() -> None:
    """A refused connection proves nothing here: the request was sent before."""
    with fault_server("legacy") as server, client_of(server) as client:
        outcome = client.call("s", "cut_for_good", {})
        assert isinstance(outcome, Failed)
        assert (outcome.kind, outcome.failure) == ("transport", "unknown")


def test_nothing_before_the_tool_is_an_unknown_outcome() -> None:
    """A handshake that fails with HTTP 500 or in silence proves that no tool ran."""

    def crash(handler: Handler) -> bool:
        handler.plain(500)
        return True

    def reset(handler: Handler) -> bool:
        handler.reset()
        return True

    def silence(handler: Handler) -> bool:
        handler.tool_hang({})
        return True

    with fault_server("legacy") as server, client_of(server) as client:
        for fault in (crash, silence, reset):
            server.handshake = fault
            outcome = client.call("s", "ok", {}, timeout=0.5)
            assert isinstance(outcome, Failed)
            assert outcome.failure == "not_executed", outcome
        server.released.set()
        server.handshake = None
        assert client.call("s", "ok", {}) == Succeeded({})


def test_a_server_that_was_replaced_by_another_era_is_detected_anew() -> None:
    """The first call after the change fails, the second finds the new era."""
    with fault_server("legacy") as server, client_of(server) as client:
        assert client.call("s", "ok", {}) == Succeeded({})
        server.era = "bare"
        server.sessions.clear()
        assert client.call("s", "rpc_error", {"code": -32600, "status": 400}).__class__ is Failed
        assert client.call("s", "ok", {}) == Succeeded({})


def test_tools_are_listed_and_filtered() -> None:
    """Only what the operator allows is offered and may be called."""
    with fault_server("legacy") as server, client_of(server, allow=("o*", "secret"), deny=("sec*",)) as client:
        server.tools = [{"name": name, "inputSchema": {}} for name in ("ok", "status", "secret")]
        assert [tool["name"] for tool in client.list_tools("s")] == ["ok"]
        for tool in ("status", "secret"):
            outcome = client.call("s", tool, {})
            assert isinstance(outcome, Failed)
            assert outcome.kind == "tool_not_allowed"
        assert server.executed == []


def test_a_server_that_does_not_answer_is_unreachable() -> None:
    """Listing has no outcome to give, so it raises one clear sentence."""
    with McpClient({"s": ServerConfig("s", url="http://127.0.0.1:9/mcp")}) as client:
        with pytest.raises(Unreachable, match=r"cannot connect to server s at http://127.0.0.1:9: connection refused"):
            client.list_tools("s")
        with pytest.raises(NotFound, match="configured: builtin, s"):
            client.list_tools("other")


@pytest.mark.parametrize(("era", "name"), [("modern", "2026-07-28"), ("legacy", "2025-06-18"), ("bare", "jsonrpc")])
def test_health_names_the_era_and_counts_the_tools(era: str, name: str) -> None:
    """One look for dashboards; a bare server is also asked GET /health."""
    with fault_server(era) as server, client_of(server) as client:
        server.tools = [{"name": "ok", "inputSchema": {}}]
        health = client.server_health("s")
        assert (health.reachable, health.era, health.tools, health.error) == (True, name, 1, None)
        assert health.latency_ms is not None
        assert ("GET" in server.methods()) == (era == "bare")


def test_health_of_a_server_that_is_down() -> None:
    """It says why, and raises nothing."""
    with McpClient({"s": ServerConfig("s", url="http://127.0.0.1:9/mcp")}) as client:
        health = client.server_health("s")
    assert not health.reachable
    assert "connection refused" in str(health.error)


def test_arguments_that_cannot_be_sent_are_refused_before_sending() -> None:
    """Neither a value that is not JSON nor a request over the limit reaches the server."""
    with fault_server("bare") as server, client_of(server, max_request_bytes=2000) as client:
        for arguments in ({"a": object()}, {"a": "x" * 3000}):
            outcome = client.call("s", "ok", arguments)
            assert isinstance(outcome, Failed)
            assert (outcome.kind, outcome.failure) == ("invalid_params", "definite")
        assert server.executed == []


def test_a_server_that_is_not_configured_is_a_value() -> None:
    """Workflows name servers; a wrong name is the workflow's fault, not a crash."""
    with McpClient({}) as client:
        outcome = client.call("nowhere", "ok", {})
    assert isinstance(outcome, Failed)
    assert outcome.kind == "server_not_configured"
    assert json.dumps(outcome.message)
