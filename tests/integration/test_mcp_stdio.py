"""Servers that are child processes: one for all threads, restarted when it dies, and gone when its worker is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.outcome import Cancelled, Failed, Succeeded
from workers.mcp_client import McpClient, ServerConfig

SERVER = Path(__file__).with_name("mcp_stdio_server.py")


def config(*args: str, **settings: Any) -> ServerConfig:
    settings = {"timeout": 10.0, **settings}
    return ServerConfig("s", command=sys.executable, args=(str(SERVER), *args), **settings)


@pytest.fixture
def client() -> Iterator[McpClient]:
    with McpClient({"s": config(max_response_bytes=100_000)}) as client:
        yield client


def output(outcome: Any) -> Any:
    assert isinstance(outcome, Succeeded), outcome
    return outcome.output


def is_there(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def eventually(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_nothing_is_started_before_the_first_use() -> None:
    """A client is made before its process forks or knows whether it needs the server."""
    with McpClient({"s": config()}):
        assert not any(thread.name.startswith("mcp-") for thread in threading.enumerate())


def test_many_threads_share_one_child(client: McpClient) -> None:
    """Eight threads call at the same time: one child, each its own answer."""
    found: list[Any] = []

    def run(number: int) -> None:
        found.extend((number, turn, output(client.call("s", "ok", {"n": number, "t": turn}))) for turn in range(20))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 160
    assert all(answer == {"n": number, "t": turn} for number, turn, answer in found)
    readers = [thread for thread in threading.enumerate() if thread.name == "mcp-s-read"]
    assert len(readers) == 1


def test_a_child_that_dies_is_started_again(client: McpClient) -> None:
    """The call in flight has an unknown outcome and its error quotes the child; the next call gets a new child."""
    before = output(client.call("s", "family", {}))
    outcome = client.call("s", "exit", {})
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.failure) == ("transport", "unknown")
    assert outcome.message == "server s ended with exit code 3; its last words: out of paper"
    after = output(client.call("s", "family", {}))
    assert after["pid"] != before["pid"]
    assert not is_there(before["pid"])
    assert not is_there(before["child"])


def test_a_killed_child_is_reaped(client: McpClient) -> None:
    """kill -9 from outside is noticed, the zombie is collected, and the group goes with it."""
    family = output(client.call("s", "family", {}))
    os.kill(family["pid"], signal.SIGKILL)
    assert eventually(lambda: not Path(f"/proc/{family['pid']}").exists())
    assert eventually(lambda: not is_there(family["child"]))
    assert output(client.call("s", "ok", {"a": 1})) == {"a": 1}


@pytest.mark.parametrize("args", [(), ("stubborn",)])
def test_close_leaves_no_process_behind(args: tuple[str, ...]) -> None:
    """The child, also one that ignores every polite word, and what it started are gone after close()."""
    with McpClient({"s": config(*args)}) as client:
        family = output(client.call("s", "family", {}))
        begin = time.monotonic()
    assert time.monotonic() - begin < 6
    assert not Path(f"/proc/{family['pid']}").exists()
    assert eventually(lambda: not is_there(family["child"]))
    assert not any(thread.name.startswith("mcp-") for thread in threading.enumerate())


def test_a_child_is_asked_before_it_is_killed(tmp_path: Path) -> None:
    """A server that stays after the end of its stdin gets SIGTERM and the time to put its things away."""
    with McpClient({"s": config("tidy", str(tmp_path / "note"))}) as client:
        client.call("s", "ok", {})
    assert (tmp_path / "note").read_text() == "tidy"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
@pytest.mark.parametrize("args", [(), ("stubborn",)])
def test_a_killed_worker_takes_its_children_along(args: tuple[str, ...]) -> None:
    """kill -9 of the process that holds the client ends its servers, also one that ignores the end of its stdin."""
    program = (
        "import sys\n"
        "from tests.integration.test_mcp_stdio import config, output\n"
        "from workers.mcp_client import McpClient\n"
        "client = McpClient({'s': config(*sys.argv[1:])})\n"
        "print(*output(client.call('s', 'family', {})).values(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", program, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with worker:
        try:
            assert worker.stdout is not None
            child, grandchild = map(int, worker.stdout.readline().split())
            assert is_there(child)
        finally:
            worker.kill()
    os.kill(grandchild, signal.SIGKILL)  # what a server starts itself is the server's to end in this case
    assert eventually(lambda: not is_there(child))


def test_the_child_outlives_the_thread_that_first_used_it(client: McpClient) -> None:
    """The kernel's parent-death signal is tied to a thread; that of the first caller must not be it."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(output(client.call("s", "family", {}))["pid"]))
    thread.start()
    thread.join(10)
    assert output(client.call("s", "family", {}))["pid"] == found[0]


def test_deadline_and_cancellation_hold_and_the_child_is_told(client: McpClient) -> None:
    """A call that nobody waits for any more ends at once; the child stays and hears which request it was."""
    client.call("s", "ok", {})
    begin = time.monotonic()
    outcome = client.call("s", "hang", {}, timeout=0.3)
    assert 0.25 < time.monotonic() - begin < 0.6
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.failure) == ("timeout", "unknown")
    cancelled = threading.Event()
    threading.Timer(0.1, cancelled.set).start()
    begin = time.monotonic()
    assert isinstance(client.call("s", "hang", {}, cancelled=cancelled), Cancelled)
    assert time.monotonic() - begin < 0.5
    assert eventually(lambda: len(output(client.call("s", "cancelled", {}))) == 2)


@pytest.mark.parametrize(
    ("tool", "arguments", "kind"),
    [
        ("raw", {"text": '{"jsonrpc":"2.0","id":NUMBER,"result":{"a":NaN}}'}, "invalid_response"),
        ("raw", {"text": '{"jsonrpc":"2.0","id":NUMBER,"result":{"a":"\xff"}}'}, "invalid_response"),
        ("raw", {"text": '{"result":{"a":Infinity},"jsonrpc":"2.0","id":NUMBER}'}, "invalid_response"),
        ("raw", {"text": '{"jsonrpc":"2.0","id":NUMBER}'}, "invalid_response"),
        ("raw", {"text": '{"jsonrpc":"2.0","id":NUMBER,"error":{"code":-32000,"message":"no"}}'}, "rpc_error"),
        ("large", {"bytes": 300_000}, "response_too_large"),
        ("raw", {"text": '{"result":{"a":"' + "x" * 300_000 + '"},"jsonrpc":"2.0","id":NUMBER}'}, "response_too_large"),
    ],
)
def test_an_unusable_answer_fails_its_own_call_only(
    client: McpClient, tool: str, arguments: dict[str, Any], kind: str
) -> None:
    """A line that cannot be used still tells which request it answers; another call in flight is not disturbed."""
    found: list[Any] = []
    client.call("s", "ok", {})
    other = threading.Thread(target=lambda: found.append(client.call("s", "hang", {"seconds": 0.5})))
    other.start()
    outcome = client.call("s", tool, arguments)
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.failure) == (kind, "definite")
    other.join(10)
    assert found == [Succeeded({"seconds": 0.5})]


def test_noise_on_stdout_is_passed_over(client: McpClient) -> None:
    """Some servers print greetings where only messages belong."""
    assert output(client.call("s", "noise", {"a": 1})) == {"a": 1}


def test_requests_of_the_child_are_answered(client: McpClient) -> None:
    """A server may ping its client."""
    assert output(client.call("s", "ask", {}))["answers"] == [{"jsonrpc": "2.0", "id": "mine", "result": {}}]


def test_the_child_sees_a_clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The worker's secrets stay with the worker; what the operator configured arrives."""
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    with McpClient({"s": config(env={"TOKEN": "t"}, cwd=str(tmp_path))}) as client:
        seen = output(client.call("s", "environment", {}))
    assert seen["env"]["TOKEN"] == "t"
    assert seen["env"]["PATH"] == os.environ["PATH"]
    assert "DATABASE_PASSWORD" not in seen["env"]
    assert seen["cwd"] == str(tmp_path)


@pytest.mark.parametrize(
    ("command", "args", "said"),
    [
        (sys.executable, ("-c", "import sys; sys.exit('no licence')"), "no licence"),
        ("/nonexistent/server", (), "No such file"),
        (str(SERVER), (), "Permission denied"),
    ],
)
def test_a_command_that_cannot_start(command: str, args: tuple[str, ...], said: str) -> None:
    """The call was not executed, and the error says why in the command's own words."""
    with McpClient({"s": ServerConfig("s", command=command, args=args)}) as client:
        outcome = client.call("s", "ok", {})
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.failure) == ("server_start_failed", "not_executed")
    assert said in outcome.message


def test_a_child_that_does_not_read_does_not_hold_its_callers() -> None:
    """A request larger than the pipe cannot be delivered: the deadline holds, and close() still ends the child."""
    program = "import sys, time; sys.stdin.readline(); time.sleep(600)"
    server = ServerConfig("s", command=sys.executable, args=("-c", program), protocol="2026-07-28")
    with McpClient({"s": server}) as client:
        assert isinstance(client.call("s", "ok", {}, timeout=0.5), Failed)
        outcome = client.call("s", "ok", {"a": "x" * 1_000_000}, timeout=0.5)
        assert isinstance(outcome, Failed)
        assert outcome.failure == "unknown"
        outcome = client.call("s", "ok", {}, timeout=0.5)
        assert isinstance(outcome, Failed)
        assert outcome.failure == "not_executed"  # it stood behind the large one and was never begun
