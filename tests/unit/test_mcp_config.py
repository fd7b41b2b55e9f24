"""The configuration of MCP servers: the common file works as it is, and every fault of it is named at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from persistence.errors import InvalidInput
from workers.mcp_client import ServerConfig, load_servers


def write(folder: Path, servers: Any) -> Path:
    path = folder / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}))
    return path


def fault_lines(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        load_servers(path, environ or {})
    return str(caught.value).splitlines()


def test_the_file_of_a_desktop_client_works_as_it_is(tmp_path: Path) -> None:
    """Keys that only other clients understand are passed over, a disabled server is left out."""
    servers = {
        "time": {"type": "stdio", "command": sys.executable, "args": ["-m", "x"], "autoApprove": ["a"], "icon": "i"},
        "web": {"type": "http", "transport": "http", "url": "https://example.com/mcp", "tools": ["*"]},
        "off": {"command": "no-such-program", "disabled": True},
    }
    loaded = load_servers(write(tmp_path, servers), {})
    assert loaded == {
        "time": ServerConfig("time", command=sys.executable, args=("-m", "x")),
        "web": ServerConfig("web", url="https://example.com/mcp"),
    }


def test_every_setting_arrives(tmp_path: Path) -> None:
    """The optional keys of a server, each with a value of its own."""
    entry = {
        "url": "http://tools.internal:3001/",
        "headers": {"X-A": "1"},
        "timeout": 2.5,
        "connect_timeout": 1,
        "max_inflight": 3,
        "max_request_bytes": 10,
        "max_response_bytes": 11,
        "protocol": "jsonrpc",
        "tools": {"allow": ["get*"], "deny": ["getSecret"]},
        "trust_annotations": False,
        "unannotated": "unsafe",
        "retryable_rpc_codes": [-32001],
        "allow_insecure": True,
    }
    config = load_servers(write(tmp_path, {"s": entry}), {})["s"]
    assert config == ServerConfig(
        "s",
        url="http://tools.internal:3001/",
        headers={"X-A": "1"},
        timeout=2.5,
        connect_timeout=1,
        max_inflight=3,
        max_request_bytes=10,
        max_response_bytes=11,
        protocol="jsonrpc",
        allow=("get*",),
        deny=("getSecret",),
        trust_annotations=False,
        unannotated="unsafe",
        retryable_rpc_codes=frozenset([-32001]),
        allow_insecure=True,
    )
    assert [config.allows(tool) for tool in ("getIssue", "getSecret", "put")] == [True, False, False]


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    """One run shows everything that must be corrected, with its place in the file."""
    servers = {
        "a.b": {"url": "https://example.com/mcp"},
        "creds": {"url": "https://me:hunter2@example.com/mcp"},
        "plain": {"url": "http://example.com/mcp"},
        "scheme": {"url": "ftp://example.com"},
        "break": {"url": "https://e.com", "headers": {"X-A": "1\r\nX-B: 2", "bad name": "x"}},
        "program": {"command": "no-such-program-anywhere"},
        "both": {"url": "https://e.com", "command": "x"},
        "none": {},
        "typo": {"url": "https://e.com", "time_out": 5},
        "kinds": {"url": "https://e.com", "timeout": "5", "protocol": "sse", "max_inflight": 0, "unannotated": "no"},
        "missing": {"url": "https://e.com", "headers": {"A": "Bearer ${NOT_SET_AT_ALL}"}},
        "folder": {"command": sys.executable, "cwd": "nowhere", "args": "x"},
        "text": "hello",
    }
    path = write(tmp_path, servers)
    first, *rest = fault_lines(path)
    assert first == f"{path}: the configuration of MCP servers has 18 faults:"
    found = {line.split(": ")[0].strip(): line for line in rest}
    assert list(found) == [
        "/mcpServers/a.b",
        "/mcpServers/creds/url",
        "/mcpServers/plain/url",
        "/mcpServers/scheme/url",
        "/mcpServers/break/headers/X-A",
        "/mcpServers/break/headers/bad name",
        "/mcpServers/program/command",
        "/mcpServers/both",
        "/mcpServers/none",
        "/mcpServers/typo/time_out",
        "/mcpServers/kinds/timeout",
        "/mcpServers/kinds/max_inflight",
        "/mcpServers/kinds/protocol",
        "/mcpServers/kinds/unannotated",
        "/mcpServers/missing/headers/A",
        "/mcpServers/folder/args",
        "/mcpServers/folder/cwd",
        "/mcpServers/text",
    ]
    assert "hunter2" not in "".join(rest)
    assert "did you mean timeout?" in found["/mcpServers/typo/time_out"]
    assert "NOT_SET_AT_ALL is not set" in found["/mcpServers/missing/headers/A"]
    assert "'a-b'" in found["/mcpServers/a.b"]


@pytest.mark.parametrize("entry", [{"url": "https://example.com/mcp"}, {"command": sys.executable}, {"disabled": True}])
def test_no_server_takes_the_name_of_the_one_that_is_always_there(tmp_path: Path, entry: dict[str, Any]) -> None:
    """Neither in the file nor by a variable; each is named with its place."""
    _, file, variable = fault_lines(
        write(tmp_path, {"builtin": entry, "other": {"url": "https://example.com/mcp"}}),
        {"MCP_BUILTIN_ENDPOINT": "http://127.0.0.1:1/"},
    )
    assert file.startswith("  /mcpServers/builtin: this is the name of the server that every installation has")
    assert variable.startswith("  MCP_BUILTIN_ENDPOINT: this is the name")


def test_references_are_resolved_and_remembered_as_secrets(tmp_path: Path) -> None:
    """Values come from the environment or a file; they never show in a repr, and are known for blotting out."""
    (tmp_path / "token").write_text("from-a-file\n")
    entry = {
        "url": "${BASE:-https://example.com}/mcp",
        "headers": {"A": "Bearer ${TOKEN}", "B": "file:token", "C": "c"},
    }
    config = load_servers(write(tmp_path, {"s": entry}), {"TOKEN": "from-the-environment"})["s"]
    assert config.url == "https://example.com/mcp"
    assert config.headers == {"A": "Bearer from-the-environment", "B": "from-a-file", "C": "c"}
    assert set(config.secrets) == {"from-the-environment", "from-a-file"}
    assert "from-" not in repr(config)


def test_paths_are_seen_from_the_file(tmp_path: Path) -> None:
    """An example's folder can be moved: relative programs and folders belong to the file, not to who starts the worker."""
    program = tmp_path / "bin" / "server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    servers = {
        "own": {"command": "./bin/server", "cwd": "bin", "env": {"ROOT": "${CONFIG_DIR}/data"}},
        "python": {"command": "${PYTHON}", "args": ["${CONFIG_DIR}/server.py"]},
    }
    loaded = load_servers(write(tmp_path, servers), {})
    assert loaded["own"].command == str(program)
    assert loaded["own"].cwd == str(tmp_path / "bin")
    assert loaded["own"].env == {"ROOT": f"{tmp_path}/data"}
    assert loaded["python"].command == sys.executable
    assert loaded["python"].args == (f"{tmp_path}/server.py",)
    assert loaded["own"].secrets == ()


def test_endpoint_variables_add_servers(tmp_path: Path) -> None:
    """MCP_<NAME>_ENDPOINT is enough by itself, gives a server of the file another address, and may be plain http."""
    environ = {
        "MCP_GITHUB_ENDPOINT": "http://github:3001",
        "MCP_WEB_ENDPOINT": "http://other/mcp",
        "MCP_X_ENDPOINT": "",
    }
    alone = load_servers(None, environ)
    assert {name: config.url for name, config in alone.items()} == {
        "github": "http://github:3001",
        "web": "http://other/mcp",
    }
    path = write(tmp_path, {"web": {"url": "https://example.com/mcp", "timeout": 7}})
    merged = load_servers(path, environ)["web"]
    assert (merged.url, merged.timeout) == ("http://other/mcp", 7)


def test_credentials_do_not_leave_over_plain_http_by_a_variable(tmp_path: Path) -> None:
    """A variable must not send the file's headers in the clear to another machine."""
    path = write(tmp_path, {"web": {"url": "https://example.com/mcp", "headers": {"A": "secret"}}})
    lines = fault_lines(path, {"MCP_WEB_ENDPOINT": "http://other/mcp"})
    assert "MCP_WEB_ENDPOINT: is plain http" in lines[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not valid JSON"),
        ("[]", "has no object at /mcpServers"),
        ('{"servers": {}}', "has no object at /mcpServers"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str, said: str) -> None:
    """The message names the file and what to do."""
    path = tmp_path / "mcp.json"
    path.write_text(text)
    assert said in "".join(fault_lines(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The message names the file."""
    assert "cannot be read: No such file" in "".join(fault_lines(tmp_path / "none.json"))


def test_no_configuration_is_no_servers() -> None:
    """Neither a file nor variables: an empty set, not an error."""
    assert load_servers(None, {"PATH": "/bin"}) == {}
