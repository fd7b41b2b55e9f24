"""The tool catalogue: what each server lists, as rows, so that validation and recovery need no server.

One worker of the fleet refreshes a server's rows per interval; `afu9 tools --refresh` does at once. A tool whose schema or
annotations changed is named in the log with the workflows that call it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.outcome import Failed
from persistence.errors import Afu9Error
from persistence.json_value import encode_json
from persistence.pool import Pool, run
from workers.mcp_client import McpClient, ServerConfig, retry_is_safe

log = logging.getLogger(__name__)

FIRST_LOOK = 5.0  # seconds that a call waits for the first look at its server's tools, at most
SOON, LATER = (
    0.01,
    0.2,
)  # seconds until the rows are looked at again while another worker asks the server: first, and at most


@dataclass(frozen=True, slots=True)
class Change:
    """A tool that is not what it was: added, changed or removed; `workflows` names those that call it."""

    server: str
    tool: str
    change: str
    workflows: tuple[str, ...]


def refresh(pool: Pool, client: McpClient, server: str) -> list[Change]:
    """Asks the server for its tools and stores them. Raises Unreachable or NotFound, noted on the server's row too."""
    config = client.servers.get(server)
    repeat = config is None or config.unannotated == "retry"
    run(pool, "claim_refresh", {"server": server, "repeat_unannotated": repeat, "ttl": 0})
    try:
        listed = client.list_tools(server)
        era = client.server_health(server).era
    except Afu9Error as error:
        run(pool, "note_server_error", {"server": server, "error": str(error)})
        raise
    rows = [_row(tool, client.servers[server]) for tool in listed]
    parameters = {"server": server, "era": era, "tools": encode_json(rows, what=f"the tools of {server}")}
    return _changes(pool, server, run(pool, "store_tools", parameters))


def _row(tool: Mapping[str, Any], config: ServerConfig) -> dict[str, Any]:
    annotations = tool.get("annotations")
    judged = json.dumps([tool.get("inputSchema"), tool.get("outputSchema"), annotations], sort_keys=True)
    unknown = Failed("transport", "", "unknown")
    return {
        "tool": tool["name"],
        "description": tool.get("description"),
        "input_schema": tool.get("inputSchema"),
        "output_schema": tool.get("outputSchema"),
        "annotations": annotations,
        "repeatable": retry_is_safe(unknown, annotations=annotations, config=config, idempotent=None),
        "hash": hashlib.sha256(judged.encode()).hexdigest(),
    }


def _changes(pool: Pool, server: str, rows: list[dict[str, Any]]) -> list[Change]:
    names = [f"{server}.{row['tool']}" for row in rows if row["change"] != "added"]
    calling: dict[str, set[str]] = {}
    for stored in run(pool, "definitions_calling", {"tools": names}) if names else ():
        definition = json.loads(stored["definition"])
        for step in definition["steps"]:
            calling.setdefault(step["tool"], set()).add(definition.get("name") or stored["hash"][:12])
    return [
        Change(server, row["tool"], row["change"], tuple(sorted(calling.get(f"{server}.{row['tool']}", ()))))
        for row in rows
    ]


class CatalogueKeeper:
    """A thread per server that refreshes what is older than the interval."""

    def __init__(self, pool: Pool, client: McpClient, ttl_seconds: float):
        self._pool = pool
        self._client = client
        self._ttl = ttl_seconds
        self._stopping = threading.Event()
        self._known = {server: threading.Event() for server in client.servers}

    def start(self) -> None:
        for server, config in self._client.servers.items():
            threading.Thread(target=self._keep, args=(server, config), name=f"catalogue {server}", daemon=True).start()

    def stop(self) -> None:
        """Does not wait for a server that is being asked: the client's close ends that."""
        self._stopping.set()

    def wait_for(self, server: str) -> None:
        """Returns once the rows tell of the server's tools, or why they do not; after FIRST_LOOK seconds in any case.
        Before that a call that is lost would be repeated without anybody knowing whether it may."""
        if (known := self._known.get(server)) is not None and not known.is_set():
            known.wait(FIRST_LOOK)

    def _keep(self, server: str, config: ServerConfig) -> None:
        pause = SOON
        while not self._stopping.is_set():
            self._refresh_if_due(server, config)
            self._stopping.wait(self._ttl if self._known[server].is_set() else pause)
            pause = min(2 * pause, LATER)

    def _refresh_if_due(self, server: str, config: ServerConfig) -> None:
        parameters = {"server": server, "repeat_unannotated": config.unannotated == "retry", "ttl": self._ttl}
        try:
            if run(self._pool, "claim_refresh", parameters)[0]["claimed"]:
                for change in refresh(self._pool, self._client, server):
                    if change.change != "added":
                        used = f"; called by {', '.join(change.workflows)}" if change.workflows else ""
                        log.warning("tool %s.%s was %s%s", server, change.tool, change.change, used)
            self._look_at_rows(server)
        except Exception as error:  # the catalogue is worth a warning, never a worker
            if not self._stopping.is_set():
                log.warning("catalogue: %s: %s", server, error)
                self._look_at_rows(server)

    def _look_at_rows(self, server: str) -> None:
        try:
            if run(self._pool, "server_is_known", {"server": server})[0]["known"]:
                self._known[server].set()
        except Exception as error:  # as above
            log.warning("catalogue: %s: %s", server, error)
