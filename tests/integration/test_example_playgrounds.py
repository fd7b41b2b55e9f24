"""The two servers that misbehave on command: the playground of the SDK, and the bare one without any library."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .mcp_session import Session, listening, python, sessions

SERVERS = Path(__file__).parents[2] / "examples" / "servers"

Post = Callable[..., httpx.Response]


@pytest.fixture(scope="module", params=["stdio", "http"])
def playground(request: pytest.FixtureRequest) -> Iterator[Session]:
    """The playground over each of its transports."""
    if request.param == "stdio":
        with sessions(playground=python(SERVERS / "playground.py")) as started:
            yield started["playground"]
    else:
        with (
            listening(SERVERS / "playground.py", "--http", "0") as port,
            sessions(playground=f"http://127.0.0.1:{port}/mcp") as started,
        ):
            yield started["playground"]


@pytest.mark.parametrize("value", [None, 5, "5", '{"a": 1}', [1, {"a": None}]])
def test_echo_gives_every_value_back_unchanged(playground: Session, value: Any) -> None:
    """Text that looks like JSON stays text."""
    assert playground.call("echo", value=value) == {"value": value}


def test_the_playground_waits_and_grows(playground: Session) -> None:
    """sleep answers late and big answers long."""
    assert playground.call("sleep", seconds=0.001) == {"seconds": 0.001}
    assert len(playground.call("big", bytes=300_000)["text"]) == 300_000


def test_fail_fails_so_many_times_per_key(playground: Session) -> None:
    """Keys are counted apart, and the call's own idempotency key serves where none is given."""
    for _ in range(2):
        assert "not now" in playground.refused("fail", times=2, key="k", message="not now")
    assert playground.call("fail", times=2, key="k") == {"key": "k", "calls": 3, "first_try": False}
    assert playground.call("fail", times=0, key="other")["first_try"] is True
    meta = {"example.org/idempotency-key": "execution:step"}
    assert "call 1" in playground.refused("fail", meta=meta)
    assert playground.call("fail", meta=meta)["key"] == "execution:step"
    assert "give a key" in playground.refused("count")


def test_weird_answers_are_text_that_is_hard_to_store(playground: Session) -> None:
    """Each is what some servers really send: NaN, an escaped NUL, half a surrogate pair."""
    assert playground.call("weird", kind="nan") == '{"value": NaN}'
    assert json.loads(playground.call("weird", kind="nul"))["value"] == "before\0after"
    assert json.loads(playground.call("weird", kind="surrogate"))["value"] == "\ud800"


def test_playgrounds_with_one_state_file_count_together(tmp_path: Path) -> None:
    """Calls of two processes at once all count, and a process started later goes on from there."""
    server = python(SERVERS / "playground.py", "--state", tmp_path / "new" / "state.json")
    with sessions(one=server, two=server) as started:
        waiting = [session.soon("count", key="k") for session in started.values() for _ in range(10)]
        assert sorted(future.result()["calls"] for future in waiting) == list(range(1, 21))
    with sessions(later=server) as started:
        assert started["later"].call("count", key="k", add=0) == {"key": "k", "calls": 20}


@pytest.fixture
def post() -> Iterator[Post]:
    """Posts one JSON-RPC request to a bare server that is healthy."""
    with listening(SERVERS / "bare.py", "0") as port, httpx.Client(trust_env=False, timeout=20) as client:

        def post(method: str, **params: Any) -> httpx.Response:
            request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
            return client.post(f"http://127.0.0.1:{port}/", json=request)

        assert client.get(f"http://127.0.0.1:{port}/health").json() == {"status": "ok"}
        yield post


def test_the_bare_server_speaks_the_plain_dialect(post: Post) -> None:
    """It reads params.tool, answers JSON text, knows no handshake, and reports failures with HTTP 200."""
    answer = post("tools/call", tool="echo", arguments={"value": [1]}).json()
    assert answer == {"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": '{"value": [1]}'}]}}
    assert post("initialize").json()["error"]["code"] == -32601
    assert post("tools/call", name="echo").json()["error"]["code"] == -32601
    failed = post("tools/call", tool="fail", arguments={"key": "k"})
    assert (failed.status_code, failed.json()["error"]["code"]) == (200, -32000)
    assert "result" in post("tools/call", tool="fail", arguments={"key": "k"}).json()
    assert post("tools/call", tool="sleep", arguments={"seconds": "x"}).json()["error"]["code"] == -32000
    assert post("health").json()["result"] == {"status": "ok"}


def test_the_bare_server_sends_what_is_hard_to_store(post: Post) -> None:
    """NaN, NUL, half a surrogate pair, bytes that are not UTF-8 and a big answer arrive as they are meant."""

    def text(tool: str, **arguments: Any) -> str:
        answer: str = post("tools/call", tool=tool, arguments=arguments).json()["result"]["content"][0]["text"]
        return answer

    assert "NaN" in text("nan")
    assert json.loads(text("nul"))["value"] == "before\0after"
    assert json.loads(text("surrogate"))["value"] == "\ud800"
    assert len(text("big", bytes=100_000)) > 100_000
    with pytest.raises(UnicodeDecodeError):
        post("tools/call", tool="invalidUtf8").content.decode()
