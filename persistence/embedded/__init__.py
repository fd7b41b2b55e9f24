"""PostgreSQL and Valkey without an installation: one process starts both, owns them and stops them.

Invariants: one state folder has one owner at a time (a lock the kernel drops with the process); servers listen on
private unix sockets only; whatever was killed, the next start works and keeps the committed rows.
"""

from persistence.embedded.find import EmbeddedUnavailable
from persistence.embedded.lock import Endpoints, find_running
from persistence.embedded.own import EmbeddedServers, open_embedded

__all__ = ["EmbeddedServers", "EmbeddedUnavailable", "Endpoints", "find_running", "open_embedded"]
