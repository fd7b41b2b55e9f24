"""The MCP client: one object per worker process, shared by all its threads.

Nothing is started or connected before the first use. A call never raises for anything that a server or the network
does: what happened is its value.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import httpx

from orchestrator import trace
from orchestrator.outcome import Cancelled, Failed, Succeeded
from orchestrator.trace_names import RPC_STATUS
from persistence.errors import Fault, InvalidInput, NotFound, Unreachable
from workers.mcp_client.budget import Budget, CallCancelled, DeadlinePassed
from workers.mcp_client.builtin import BUILTIN_SERVER, NAME_TAKEN, BuiltinPeer
from workers.mcp_client.call import new_call
from workers.mcp_client.describe_call import describe_call
from workers.mcp_client.exchange import Http
from workers.mcp_client.failures import Trouble, clip, trouble
from workers.mcp_client.health import ServerHealth, look
from workers.mcp_client.http_channel import HttpChannel
from workers.mcp_client.launch import Launcher
from workers.mcp_client.load import load_servers
from workers.mcp_client.peer import HttpPeer, Peer, StdioPeer
from workers.mcp_client.results import outcome_of
from workers.mcp_client.servers import ServerConfig

_log = logging.getLogger(__name__)
NOT_CALLED = Cancelled("cancelled before the tool was called", "not_executed")


class McpClient:
    """Calls tools of the configured servers, and of `builtin`, which is always there."""

    def __init__(self, servers: Mapping[str, ServerConfig]) -> None:
        """Raises InvalidInput for a server that takes the name `builtin`."""
        if BUILTIN_SERVER.name in servers:
            raise InvalidInput(f"servers: {Fault(BUILTIN_SERVER.name, *NAME_TAKEN)}")
        self.servers: Mapping[str, ServerConfig] = MappingProxyType({**servers, BUILTIN_SERVER.name: BUILTIN_SERVER})
        self._lock = threading.Lock()
        self._peers: dict[str, Peer] = {BUILTIN_SERVER.name: BuiltinPeer()}
        self._http: Http | None = None
        self._launcher: Launcher | None = None
        self._notices: ThreadPoolExecutor | None = None
        self._closed = False

    @classmethod
    def from_environment(cls, path: str | Path | None, environ: Mapping[str, str] = os.environ) -> McpClient:
        """The servers of the `mcpServers` file at `path` and of the MCP_<NAME>_ENDPOINT variables."""
        return cls(load_servers(path, environ))

    def call(
        self,
        server: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        timeout: float | None = None,
        idempotency_key: str = "",
        meta: Mapping[str, Any] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Succeeded | Failed | Cancelled:
        """Call one tool and wait for its outcome, at most `timeout` seconds (default: the server's own).

        `idempotency_key` and a `traceparent` in `meta` are sent in `_meta` and as HTTP headers. Setting `cancelled`
        from another thread ends the wait within about 0.2 s; the server is told, but may run the tool to its end.
        """
        config = self.servers.get(server)
        if config is None:
            return Failed("server_not_configured", self._unknown(server))
        if not config.allows(tool):
            return Failed(
                "tool_not_allowed", f"{config.where}: the configuration does not allow the tool {clip(tool, 200)}"
            )
        budget = _budget(config, timeout, cancelled)
        begun = False
        try:
            call = new_call(tool, arguments, idempotency_key, meta)
            with self._peer(config).use(budget) as era:
                begun = True
                try:
                    return outcome_of(era.call(call, budget), config.where)
                finally:
                    if trace.on is not None:
                        trace.on.note(describe_call(config, era))
        except Trouble as error:
            if trace.on is not None and error.code is not None:
                trace.on.note({RPC_STATUS: str(error.code)})
            if error.failed.failure == "not_executed" and cancelled is not None and cancelled.is_set():
                return NOT_CALLED  # the trouble may come of what else ends now: this client, its servers
            return error.failed
        except DeadlinePassed:
            message = f"{config.where} was not ready within {budget.seconds:.3g} s; the tool was not called"
            return Failed("timeout", message, "not_executed")
        except CallCancelled:
            return Cancelled("cancelled while the tool was called") if begun else NOT_CALLED
        except Exception as error:
            _log.exception("a call of %s.%s met something unforeseen", server, tool)
            return Failed("protocol_error", f"{config.where}: {type(error).__name__}: {clip(str(error))}", "unknown")

    def list_tools(self, server: str) -> list[dict[str, Any]]:
        """The tools the server offers and the configuration allows, as the server describes them.

        Raises Unreachable if it cannot say, NotFound for a server that is not configured.
        """
        config = self._config(server)
        budget = _budget(config, None, None)
        try:
            with self._peer(config).use(budget) as era:
                tools = era.list_tools(budget)
        except Trouble as error:
            raise Unreachable(f"cannot list the tools: {error.failed.message}") from error
        except DeadlinePassed as error:
            raise Unreachable(
                f"cannot list the tools: {config.where} was not ready within {budget.seconds:.3g} s"
            ) from error
        return [tool for tool in tools if config.allows(tool["name"])]

    def server_health(self, server: str) -> ServerHealth:
        """Whether the server answers, its era, the number of its tools, and how long that took. Raises NotFound for a
        server that is not configured."""
        config = self._config(server)
        try:
            peer = self._peer(config)
        except Trouble as error:
            return ServerHealth(server, False, error=error.failed.message)
        return look(server, peer, _budget(config, None, None))

    def close(self) -> None:
        """End children with their groups, sessions and connections. Later calls fail as not executed."""
        with self._lock:
            self._closed = True
            peers = list(self._peers.values())
        for peer in peers:
            peer.begin_close()
        for peer in peers:
            peer.end_close()
        if self._notices is not None:
            self._notices.shutdown(wait=True, cancel_futures=True)
        if self._http is not None:
            self._http.close()
        if self._launcher is not None:
            self._launcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _config(self, server: str) -> ServerConfig:
        config = self.servers.get(server)
        if config is None:
            raise NotFound(self._unknown(server))
        return config

    def _unknown(self, server: str) -> str:
        known = ", ".join(sorted(self.servers)) or "none"
        return f"no server {clip(server, 100)!r} is configured (configured: {known}); add it to the mcpServers file"

    def _peer(self, config: ServerConfig) -> Peer:
        with self._lock:
            if self._closed:
                raise trouble("transport", "the client is closed", "not_executed")
            peer = self._peers.get(config.name)
            if peer is None:
                peer = self._peers[config.name] = self._new_peer(config)
            return peer

    def _new_peer(self, config: ServerConfig) -> Peer:
        if config.url:
            return HttpPeer(HttpChannel(config, self._connected, self._later))
        return StdioPeer(config, self._launch)

    def _connected(self) -> Http:
        """The connections of this process."""
        if self._http is not None:
            return self._http
        with self._lock:
            if self._http is None:
                self._http = _new_http(any(config.url.startswith("https:") for config in self.servers.values()))
            return self._http

    def _launch(self) -> Launcher:
        with self._lock:
            if self._launcher is None:
                self._launcher = Launcher()
            return self._launcher

    def _later(self, task: Callable[[], None]) -> None:
        """Run a short best-effort task (a notice to a server) without keeping the caller waiting."""
        with self._lock:
            if self._notices is None:
                self._notices = ThreadPoolExecutor(max_workers=2, thread_name_prefix="mcp-notice")
            with suppress(RuntimeError):  # closed meanwhile
                self._notices.submit(task)


def _budget(config: ServerConfig, timeout: float | None, cancelled: threading.Event | None) -> Budget:
    seconds = config.timeout if timeout is None else timeout
    return Budget(seconds, connect_timeout=config.connect_timeout, cancelled=cancelled)


def _new_http(needs_tls: bool) -> Http:
    """Trust as httpx has it, with SSL_CERT_FILE obeyed."""
    return Http(httpx.create_ssl_context() if needs_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
