"""The tools as a step sees them: the MCP client, secrets put in just before the call and blotted out of what comes back,
and the word on whether a call may be made twice."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

from orchestrator.builtin_tools import BUILTIN
from orchestrator.outcome import Cancelled, Failed, Succeeded
from orchestrator.price import Prices
from persistence.errors import Afu9Error, InvalidInput
from persistence.pool import Pool, run
from persistence.settings import Settings
from workers.mcp_client import McpClient, ServerConfig, retry_is_safe
from workers.mcp_client.builtin import waits
from workers.secrets import Secrets, tells

ANNOTATIONS_PATIENCE = 25.0  # seconds that the word on a call is worth waiting for while PostgreSQL is away
Waiting: TypeAlias = Callable[[], AbstractContextManager[None]]
Annotations: TypeAlias = Callable[[str, str], Mapping[str, Any] | None]


class Tools:
    """A ToolCaller (orchestrator/attempt_step.py). `annotations` answers what a tool says of itself, None if unknown;
    `known` waits until that has been asked, so that a call is never lost before anybody knows whether to repeat it;
    `waiting` surrounds what leaves the thread idle."""

    def __init__(
        self,
        client: McpClient,
        secrets: Secrets,
        annotations: Annotations,
        max_output_bytes: int,
        known: Callable[[str], None] | None = None,
        waiting: Waiting = nullcontext,
    ):
        self.client = client
        self.secrets = secrets
        self.max_output_bytes = max_output_bytes
        self.longest_call_seconds = max([config.timeout for config in client.servers.values()], default=30.0)
        self._annotations = annotations
        self._known = known
        self._waiting = waiting

    @classmethod
    def from_settings(
        cls,
        client: McpClient,
        settings: Settings,
        pool: Pool | None,
        known: Callable[[str], None] | None = None,
        waiting: Waiting = nullcontext,
    ) -> Tools:
        """With a pool the annotations come from the catalogue's rows, else from the servers."""
        configured = [secret for config in client.servers.values() for secret in configured_secrets(config)]
        secrets = Secrets.from_environment(os.environ, settings.secrets_dir, configured)
        annotations = stored_annotations(pool) if pool else listed_annotations(client)
        return cls(client, secrets, annotations, settings.max_output_bytes, known, waiting)

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
        try:
            resolved = dict(arguments) if server == BUILTIN else self.secrets.resolve(dict(arguments))
        except InvalidInput as error:
            return Failed("secret_not_found", str(error), "definite")
        with self._waiting() if waits(server, tool) else nullcontext():
            if self._known is not None:
                self._known(server)
            outcome = self.client.call(
                server,
                tool,
                resolved,
                timeout=timeout,
                idempotency_key=idempotency_key,
                meta=meta,
                cancelled=cancelled,
            )
        try:
            return self._redacted(outcome)
        except RecursionError:
            return Failed("invalid_response", "the tool's result is nested too deeply to look for secrets", "definite")

    def may_repeat(self, server: str, tool: str, idempotent: bool | None) -> bool:
        """Whether a call whose outcome nobody knows may be made again (workers/mcp_client/retry.py has the rule)."""
        config = self.client.servers.get(server)
        if config is None:
            return True  # it cannot have been called
        unknown = Failed("transport", "", "unknown")
        return retry_is_safe(unknown, annotations=self._annotations(server, tool), config=config, idempotent=idempotent)

    def prices(self, server: str) -> Prices:
        """What the operator configured; empty if nothing."""
        config = self.client.servers.get(server)
        return config.prices if config is not None else {}

    def shown(self, params: Any) -> Any:
        """The params as they may be stored."""
        return self.secrets.redact(params)

    def _redacted(self, outcome: Succeeded | Failed | Cancelled) -> Succeeded | Failed | Cancelled:
        blot = self.secrets.blot
        match outcome:
            case Succeeded(output=output, meta=meta):
                return Succeeded(blot(output), blot(meta))
            case Failed(kind=kind, message=message, failure=failure, retry_after=wait, output=output):
                return Failed(kind, blot(message), failure, wait, blot(output))
            case Cancelled():
                return outcome


def configured_secrets(config: ServerConfig) -> set[str]:
    """What a server's configuration holds and nobody may see: values that came by reference, and those that are written
    out under a telling name, such as Authorization (its token too, without the scheme)."""
    telling = {value for name, value in {**config.env, **config.headers}.items() if tells(name)}
    return {*config.secrets, *telling, *(value.split(" ")[-1] for value in telling)}


def stored_annotations(pool: Pool) -> Annotations:
    """From the catalogue's rows; asked only when an outcome is unknown."""

    def annotations(server: str, tool: str) -> Mapping[str, Any] | None:
        rows = run(pool, "list_tools", {"server": server}, patience=ANNOTATIONS_PATIENCE)
        return next((row["annotations"] for row in rows if row["tool"] == tool), None)

    return annotations


def listed_annotations(client: McpClient) -> Annotations:
    """From the server itself, where there is no catalogue."""

    def annotations(server: str, tool: str) -> Mapping[str, Any] | None:
        try:
            listed = client.list_tools(server)
        except Afu9Error:
            return None
        return next((entry.get("annotations") for entry in listed if entry["name"] == tool), None)

    return annotations
