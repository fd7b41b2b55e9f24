"""The client against servers that others wrote: published ones over stdio, and the official SDK over both transports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.outcome import Cancelled, Failed, Succeeded
from workers.mcp_client import McpClient, ServerConfig

SDK_SERVER = Path(__file__).with_name("mcp_sdk_server.py")
NPM_FOLDER = Path(__file__).parents[2] / ".conformance"
EVERYTHING = NPM_FOLDER / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"


@contextmanager
def program(*command: str) -> Iterator[str]:
    """A running program, and the first line it printed."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    command = (sys.executable, str(SDK_SERVER))
    with program(*command, "json") as json_url, program(*command, "sse") as sse_url:
        yield {"json": json_url, "sse": sse_url}


@pytest.fixture(params=["json", "json-legacy", "sse", "sse-legacy", "stdio", "stdio-legacy"])
def client(request: pytest.FixtureRequest, urls: dict[str, str]) -> Iterator[McpClient]:
    """One server of the SDK over each transport, in the era it prefers and as an older client would speak to it."""
    mode, _, pin = request.param.partition("-")
    settings: dict[str, Any] = {"timeout": 20, "protocol": pin or "auto"}
    if mode == "stdio":
        config = ServerConfig("s", command=sys.executable, args=(str(SDK_SERVER), "stdio"), **settings)
    else:
        config = ServerConfig("s", url=urls[mode], **settings)
    with McpClient({"s": config}) as client:
        assert client.server_health("s").era == ("2025-11-25" if pin else "2026-07-28")
        yield client


def test_the_sdk_is_called_over_every_transport(client: McpClient) -> None:
    """Results, a tool's own failure, an unknown tool, the key in `_meta`."""
    assert {tool["name"] for tool in client.list_tools("s")} == {"add", "boom", "slow", "key"}
    assert client.call("s", "add", {"a": 1, "b": 2}) == Succeeded({"result": 3})
    assert client.call("s", "key", {}, idempotency_key="run:1") == Succeeded({"result": "run:1"})
    for tool, arguments in (("boom", {}), ("nope", {}), ("add", {"a": "x"})):
        outcome = client.call("s", tool, arguments)
        assert isinstance(outcome, Failed), outcome
        assert outcome.failure == "definite"


def test_the_sdk_survives_what_we_give_up(client: McpClient) -> None:
    """A timeout and a cancellation in the middle leave the server and the other calls as they were."""
    late = client.call("s", "slow", {"seconds": 30}, timeout=0.3)
    assert isinstance(late, Failed)
    assert (late.kind, late.failure) == ("timeout", "unknown")
    cancelled = threading.Event()
    threading.Timer(0.1, cancelled.set).start()
    assert isinstance(client.call("s", "slow", {"seconds": 30}, cancelled=cancelled), Cancelled)
    assert client.call("s", "slow", {"seconds": 0}) == Succeeded({"result": "done"})


def test_eight_threads_call_the_sdk(client: McpClient) -> None:
    """Every thread gets its own sums."""
    wrong: list[Any] = []

    def run(number: int) -> None:
        for turn in range(10):
            outcome = client.call("s", "add", {"a": number, "b": turn})
            if outcome != Succeeded({"result": number + turn}):
                wrong.append(outcome)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def installed(name: str) -> str:
    """The path of a command of this interpreter's environment."""
    found = shutil.which(name, path=os.path.dirname(sys.executable))
    if found is None:
        pytest.skip(f"{name} is not installed (pip install 'afu9[demo]')")
    return found


def test_the_published_time_server() -> None:
    """mcp-server-time answers JSON in a text block: it becomes a value."""
    config = ServerConfig("time", command=installed("mcp-server-time"), timeout=20)
    with McpClient({"time": config}) as client:
        arguments = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
        outcome = client.call("time", "convert_time", arguments)
        assert isinstance(outcome, Succeeded)
        assert outcome.output["time_difference"] == "+9.0h"


def test_the_published_git_server(tmp_path: Path) -> None:
    """mcp-server-git works in a real repository, and says which of its tools are safe to repeat."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    config = ServerConfig("git", command=installed("mcp-server-git"), timeout=20)
    with McpClient({"git": config}) as client:
        tools = {tool["name"]: tool.get("annotations", {}) for tool in client.list_tools("git")}
        assert tools["git_status"]["readOnlyHint"] is True
        assert tools["git_commit"]["idempotentHint"] is False
        outcome = client.call("git", "git_status", {"repo_path": str(tmp_path)})
        assert isinstance(outcome, Succeeded)
        assert "No commits yet" in outcome.output


@pytest.fixture(scope="module")
def everything() -> str:
    """The reference server of the TypeScript SDK. It comes from npm, so it is used where somebody allowed that."""
    if not EVERYTHING.exists():
        if os.environ.get("AFU9_TEST_NPM") != "1" or shutil.which("npm") is None:
            pytest.skip("server-everything is not installed; AFU9_TEST_NPM=1 lets this test fetch it with npm")
        package = "@modelcontextprotocol/server-everything"
        done = subprocess.run(["npm", "install", "--silent", "--prefix", NPM_FOLDER, package], capture_output=True)
        if done.returncode:
            pytest.skip("npm could not install server-everything")
    return shutil.which("node") or pytest.skip("node is not installed")


def test_the_reference_server_over_stdio(everything: str) -> None:
    """server-everything over stdio: structured content, annotations, a tool that takes its time."""
    config = ServerConfig("e", command=everything, args=(str(EVERYTHING), "stdio"), timeout=20)
    with McpClient({"e": config}) as client:
        assert client.server_health("e").era == "2025-11-25"
        check_everything(client)


def test_the_reference_server_over_http(everything: str) -> None:
    """server-everything with sessions and event streams, restarted in between: the session is repaired."""
    port = free_port()
    config = ServerConfig("e", url=f"http://127.0.0.1:{port}/mcp", timeout=20)
    with McpClient({"e": config}) as client:
        for _ in range(2):
            with everything_over_http(everything, port):
                check_everything(client)


def check_everything(client: McpClient) -> None:
    assert client.call("e", "echo", {"message": "hello"}) == Succeeded("Echo: hello")
    outcome = client.call("e", "get-structured-content", {"location": "Chicago"})
    assert isinstance(outcome, Succeeded)
    assert set(outcome.output) == {"temperature", "conditions", "humidity"}
    late = client.call("e", "trigger-long-running-operation", {"duration": 30, "steps": 5}, timeout=0.4)
    assert isinstance(late, Failed)
    assert late.kind == "timeout"
    assert isinstance(client.call("e", "nope", {}), Failed)


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def everything_over_http(node: str, port: int) -> Iterator[None]:
    environment = {**os.environ, "PORT": str(port)}
    command = [node, str(EVERYTHING), "streamableHttp"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if b"listening" in line.lower():
                    break
            yield
        finally:
            process.kill()
