"""Check one entry of the `mcpServers` file and turn it into a ServerConfig; every fault is noted, none is raised."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from persistence.errors import Fault
from workers.mcp_client.eras import BARE, MODERN_VERSIONS
from workers.mcp_client.references import MissingReference, References
from workers.mcp_client.server_prices import read_prices
from workers.mcp_client.servers import ServerConfig

_PROTOCOLS = ("auto", *MODERN_VERSIONS, "legacy", BARE)
_OF_HTTP = ("url", "headers", "allow_insecure", "connect_timeout")
_OF_STDIO = ("command", "args", "env", "cwd")
_OF_BOTH = ("disabled", "max_inflight", "max_request_bytes", "max_response_bytes", "protocol", "timeout")
_OF_TOOLS = ("prices", "retryable_rpc_codes", "tools", "trust_annotations", "unannotated")
_OURS = _OF_HTTP + _OF_STDIO + _OF_BOTH + _OF_TOOLS
_OF_OTHERS = ("type", "transport", "name", "title", "description", "icon", "autoApprove", "alwaysAllow", "envFile")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def read_entry(name: str, entry: Any, pointer: str, references: References, faults: list[Fault]) -> ServerConfig | None:
    """The server, or None if it is switched off or has a fault."""
    if not isinstance(entry, dict):
        faults.append(Fault(pointer, "must be an object", 'for example {"url": "https://…/mcp"}'))
        return None
    if entry.get("disabled") is True:
        return None
    before = len(faults)
    reader = _Reader(entry, pointer, references, faults)
    values = reader.read()
    return ServerConfig(name=name, **values) if len(faults) == before else None


class _Reader:
    def __init__(self, entry: dict[str, Any], pointer: str, references: References, faults: list[Fault]) -> None:
        self._entry, self._pointer, self._references, self._faults = entry, pointer, references, faults
        self._secrets: set[str] = set()

    def read(self) -> dict[str, Any]:
        self._look_for_misspelt_keys()
        values = self._settings()
        has_url, has_command = "url" in self._entry, "command" in self._entry
        if has_url and has_command:
            self._fault("", "has both url and command", "keep one: an address to call or a program to start")
        elif has_url:
            values |= self._http(bool(values.get("allow_insecure")))
        elif has_command:
            values |= self._stdio()
        else:
            self._fault("", "has neither url nor command", 'add "url" (HTTP) or "command" (a program to start)')
        return values | {"secrets": tuple(sorted(self._secrets))}

    def _fault(self, key: str, message: str, hint: str = "") -> None:
        self._faults.append(Fault(self._pointer + (f"/{key}" if key else ""), message, hint))

    def _look_for_misspelt_keys(self) -> None:
        for key in self._entry:
            if key in _OURS or key in _OF_OTHERS:
                continue
            near = difflib.get_close_matches(key, _OURS, 1, 0.8)
            if near:
                self._fault(key, "is not a key of a server", f"did you mean {near[0]}?")

    def _settings(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key in ("timeout", "connect_timeout"):
            self._take(values, key, _is_seconds, "must be a number of seconds greater than 0")
        for key in ("max_inflight", "max_request_bytes", "max_response_bytes"):
            self._take(values, key, _is_count, "must be a whole number greater than 0")
        for key in ("trust_annotations", "allow_insecure"):
            self._take(values, key, lambda v: isinstance(v, bool), "must be true or false")
        self._take(values, "protocol", lambda v: v in _PROTOCOLS, f"must be one of {', '.join(_PROTOCOLS)}")
        self._take(values, "unannotated", lambda v: v in ("retry", "unsafe"), "must be retry or unsafe")
        self._take(values, "retryable_rpc_codes", _is_codes, "must be a list of whole numbers")
        if "retryable_rpc_codes" in values:
            values["retryable_rpc_codes"] = frozenset(values["retryable_rpc_codes"])
        if "prices" in self._entry:
            values["prices"] = read_prices(self._entry["prices"], self._fault)
        return values | self._tools()

    def _take(self, values: dict[str, Any], key: str, fits: Callable[[Any], bool], demand: str) -> None:
        if key not in self._entry:
            return
        if fits(self._entry[key]):
            values[key] = self._entry[key]
        else:
            self._fault(key, demand)

    def _tools(self) -> dict[str, Any]:
        tools = self._entry.get("tools")
        if tools is None or not isinstance(tools, dict):
            return {}  # some clients keep other things under this name
        values = {}
        for key in ("allow", "deny"):
            names = tools.get(key)
            if names is None:
                continue
            if _is_texts(names):
                values[key] = tuple(names)
            else:
                self._fault(f"tools/{key}", "must be a list of tool names", "* stands for any characters")
        return values

    def _http(self, allow_insecure: bool) -> dict[str, Any]:
        url = self._text("url")
        headers = self._texts_by_name("headers")
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name):
                self._fault(f"headers/{name}", "is not a header name")
            if not value.isprintable() or not value.isascii():
                self._fault(f"headers/{name}", "holds a line break or a character that a header cannot carry")
        if url is not None:
            problem = url_fault(url, insecure_ok=allow_insecure)
            if problem is not None:
                self._fault("url", *problem)
        return {"url": url or "", "headers": {name: value.strip() for name, value in headers.items()}}

    def _stdio(self) -> dict[str, Any]:
        args = self._entry.get("args", [])
        if not _is_texts(args):
            self._fault("args", "must be a list of texts")
            args = []
        resolved = [self._resolved(f"args/{index}", text) for index, text in enumerate(args)]
        env = self._texts_by_name("env")
        cwd = self._folder()
        command = self._text("command")
        found = self._executable(command, env) if command else None
        return {"command": found or "", "args": tuple(text or "" for text in resolved), "env": env, "cwd": cwd}

    def _folder(self) -> str | None:
        text = self._text("cwd") if self._entry.get("cwd") is not None else None
        if text is None:
            return None
        path = self._references.path(text)
        if not path.is_dir():
            self._fault("cwd", f"the folder {path} does not exist", "create it or correct the path")
        return str(path)

    def _executable(self, command: str, env: Mapping[str, str]) -> str | None:
        if os.sep in command:
            path = str(self._references.path(command))
            found = path if Path(path).is_file() and os.access(path, os.X_OK) else None
        else:
            path = command
            found = shutil.which(command, path=env.get("PATH"))
        if found is None:
            self._fault("command", f"no program {path} can be run", "install it, or write its full path")
        return found

    def _text(self, key: str) -> str | None:
        value = self._entry.get(key)
        if not isinstance(value, str) or not value.strip():
            self._fault(key, "must be a text")
            return None
        return self._resolved(key, value.strip())

    def _resolved(self, place: str, text: str) -> str | None:
        try:
            return self._references.resolve(text)
        except MissingReference as error:
            self._fault(place, str(error))
            return None

    def _texts_by_name(self, key: str) -> dict[str, str]:
        given = self._entry.get(key) or {}
        if not isinstance(given, dict) or not _is_texts(list(given.values())):
            self._fault(key, "must be an object of texts")
            return {}
        values = {}
        for name, text in given.items():
            try:
                values[name] = self._references.resolve_secret(text, self._secrets)
            except MissingReference as error:
                self._fault(f"{key}/{name}", str(error))
        return values


def url_fault(url: str, *, insecure_ok: bool) -> tuple[str, str] | None:
    """What is wrong with a server's address and what to do about it; never repeats a password."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"is not a URL: {error}", "write http(s)://host[:port]/path"
    if parts.scheme not in ("http", "https") or not host or not url.isprintable():
        return "is not an http(s) URL", "write http(s)://host[:port]/path"
    if parts.username is not None or parts.password is not None:
        return "holds credentials", 'remove them and use "headers": {"Authorization": "Bearer ${TOKEN}"}'
    if parts.scheme == "http" and not insecure_ok and not _is_loopback(host):
        return "is plain http to another machine", 'use https, or add "allow_insecure": true for a trusted network'
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 7 * 24 * 3600


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_codes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(code, int) and not isinstance(code, bool) for code in value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
