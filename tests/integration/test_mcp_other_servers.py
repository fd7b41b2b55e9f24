"""The client against servers of other makers: FastMCP over its transports, mcp-server-fetch over stdio."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestrator.outcome import Failed, Succeeded
from workers.mcp_client import McpClient, ServerConfig

FASTMCP_SERVER = Path(__file__).with_name("fast_server.py")


@pytest.fixture(scope="module", params=["stdio", "json", "sse"])
def fastmcp(request: pytest.FixtureRequest) -> Iterator[McpClient]:
    """One FastMCP server per transport."""
    command = [sys.executable, str(FASTMCP_SERVER), request.param]
    if request.param == "stdio":
        with McpClient({"f": ServerConfig("f", command=command[0], args=tuple(command[1:]), timeout=30)}) as client:
            yield client
        return
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            with McpClient({"f": ServerConfig("f", url=url, timeout=30)}) as client:
                yield client
        finally:
            process.kill()


def test_fastmcp_is_called_over_every_transport(fastmcp: McpClient) -> None:
    """Wrapped scalars stay wrapped, objects are objects, a raising tool and an unknown one are definite failures."""
    assert {tool["name"] for tool in fastmcp.list_tools("f")} == {"add", "profile", "boom"}
    added = fastmcp.call("f", "add", {"a": 1, "b": 2})
    assert isinstance(added, Succeeded)
    assert added.output == {"result": 3}
    profile = fastmcp.call("f", "profile", {"name": "ada"})
    assert isinstance(profile, Succeeded)
    assert profile.output == {"name": "ada", "tags": ["a", "b"]}
    boom = fastmcp.call("f", "boom", {})
    assert isinstance(boom, Failed)
    assert (boom.kind, boom.failure) == ("tool_error", "definite")
    assert "no such luck" in boom.message
    unknown = fastmcp.call("f", "nope", {})
    assert isinstance(unknown, Failed)
    assert unknown.failure == "definite"


def test_eight_threads_call_fastmcp(fastmcp: McpClient) -> None:
    """Every thread gets its own sums."""
    wrong: list[object] = []

    def run(number: int) -> None:
        for turn in range(5):
            outcome = fastmcp.call("f", "add", {"a": number, "b": turn})
            if not isinstance(outcome, Succeeded) or outcome.output != {"result": number + turn}:
                wrong.append(outcome)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/page"
        body = b"<html><body><h1>Hello</h1><p>A page on loopback.</p></body></html>" if found else b"no"
        self.send_response(200 if found else 404)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_published_fetch_server(site: str) -> None:
    """mcp-server-fetch gets a page; one that is not there is the tool's own failure."""
    args = ("-m", "mcp_server_fetch", "--ignore-robots-txt", "--allow-private-ips")
    with McpClient({"fetch": ServerConfig("fetch", command=sys.executable, args=args, timeout=60)}) as client:
        assert [tool["name"] for tool in client.list_tools("fetch")] == ["fetch"]
        outcome = client.call("fetch", "fetch", {"url": f"{site}/page", "raw": True})
        assert isinstance(outcome, Succeeded), outcome
        assert "A page on loopback." in str(outcome.output)
        missing = client.call("fetch", "fetch", {"url": f"{site}/nothing"})
        assert isinstance(missing, Failed)
        assert missing.failure == "definite"
        assert "404" in missing.message
