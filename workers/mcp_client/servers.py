"""What the operator configured about one MCP server. Values only; load.py reads and checks the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Literal

from orchestrator.price import Prices

MIB = 1024 * 1024
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One server: either `url` or `command` is set. Headers, arguments and environment never show in a repr: they hold
    secrets. Times are seconds, sizes bytes."""

    name: str
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    command: str = ""
    args: tuple[str, ...] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    timeout: float = 30.0
    connect_timeout: float = 5.0
    max_inflight: int | None = None
    max_request_bytes: int = 4 * MIB
    max_response_bytes: int = 8 * MIB
    protocol: str = "auto"
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    trust_annotations: bool = True
    unannotated: Literal["retry", "unsafe"] = "retry"
    retryable_rpc_codes: frozenset[int] = frozenset()
    allow_insecure: bool = False
    prices: Prices = field(default_factory=dict)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def where(self) -> str:
        """How error messages name the server."""
        return f"server {self.name}"

    @property
    def address(self) -> str:
        """Where it is, without what may hold secrets: the URL's path and query, the command's arguments."""
        return self.command or "/".join(self.url.split("/", 3)[:3])

    def allows(self, tool: str) -> bool:
        """Whether the operator lets workflows use this tool; `deny` wins over `allow`."""
        if self.allow == ("*",) and not self.deny:
            return True
        return any(fnmatchcase(tool, p) for p in self.allow) and not any(fnmatchcase(tool, p) for p in self.deny)
