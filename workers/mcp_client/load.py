"""Read the operator's configuration of MCP servers: the `mcpServers` file that MCP clients share, and
MCP_<NAME>_ENDPOINT.

All faults are reported at once, each with its place in the file and what to do. Keys that other clients put there and
that mean nothing here are passed over; one that looks like a misspelt key of ours is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from persistence.errors import Fault, InvalidInput
from persistence.json_value import decode_json
from workers.mcp_client.builtin import BUILTIN_SERVER, NAME_TAKEN
from workers.mcp_client.references import References
from workers.mcp_client.server_entry import read_entry, url_fault
from workers.mcp_client.servers import ServerConfig

_NAME = re.compile(r"[a-z0-9_-]+")
_ENDPOINT = re.compile(r"MCP_([A-Za-z0-9_]+)_ENDPOINT")


def load_servers(path: str | Path | None, environ: Mapping[str, str]) -> dict[str, ServerConfig]:
    """The configured servers by name. Raises InvalidInput with every fault of the file and the variables."""
    faults: list[Fault] = []
    file = Path(path).absolute() if path is not None else None
    servers = _from_file(file, environ, faults) if file is not None else {}
    for variable, url in sorted(environ.items()):
        match = _ENDPOINT.fullmatch(variable)
        if match and url:
            _add_endpoint(servers, match[1].lower(), variable, url, faults)
    if faults:
        source = str(file) if file is not None else "the environment"
        noun = "fault" if len(faults) == 1 else "faults"
        lines = "\n".join(f"  {fault}" for fault in faults)
        raise InvalidInput(f"{source}: the configuration of MCP servers has {len(faults)} {noun}:\n{lines}")
    return servers


def _from_file(file: Path, environ: Mapping[str, str], faults: list[Fault]) -> dict[str, ServerConfig]:
    entries = _entries(file)
    references = References(environ, file.parent)
    servers = {}
    for name, entry in entries.items():
        pointer = "/mcpServers/" + name.replace("~", "~0").replace("/", "~1")
        if not _NAME.fullmatch(name):
            usable = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") or "server"
            hint = f"rename it, for example {usable!r}; a tool is written server.tool"
            faults.append(Fault(pointer, "a server's name may hold only a-z, 0-9, _ and -", hint))
        if name == BUILTIN_SERVER.name:
            faults.append(Fault(pointer, *NAME_TAKEN))
        config = read_entry(name, entry, pointer, references, faults)
        if config is not None:
            servers[name] = config
    return servers


def _entries(file: Path) -> dict[str, Any]:
    try:
        document = decode_json(file.read_bytes())
    except OSError as error:
        raise InvalidInput(
            f"{file}: cannot be read: {error.strerror}; name the file of MCP servers that exists"
        ) from error
    except ValueError as error:
        raise InvalidInput(f"{file}: is not valid JSON: {error}; correct the file") from error
    entries = document.get("mcpServers") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        hint = 'write {"mcpServers": {"name": {"url": "…"}}}'
        raise InvalidInput(f"{file}: has no object at /mcpServers; {hint}")
    return entries


def _add_endpoint(servers: dict[str, ServerConfig], name: str, variable: str, url: str, faults: list[Fault]) -> None:
    """An endpoint variable adds a server, or gives one of the file another address. It carries no credentials, so plain
    http is fine for it."""
    present = servers.get(name)
    if name == BUILTIN_SERVER.name:
        faults.append(Fault(variable, *NAME_TAKEN))
        return
    if present is not None and present.command:
        faults.append(Fault(variable, f"the file configures {name} as a command", "remove one of the two"))
        return
    problem = url_fault(url, insecure_ok=present is None or present.allow_insecure or not present.headers)
    if problem is not None:
        faults.append(Fault(variable, *problem))
        return
    if present is None:
        servers[name] = ServerConfig(name=name, url=url, allow_insecure=True)
    else:
        import dataclasses

        servers[name] = dataclasses.replace(present, url=url)
