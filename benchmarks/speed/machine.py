"""What the figures were measured on: no names of hosts, no paths."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from benchmarks.speed.install import Peer
from benchmarks.speed.servers import Servers

OURS = ("afu9", "psycopg", "redis")


def machine() -> dict[str, object]:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    kilobytes = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(kilobytes / 1024**2),
        "system": f"Linux {platform.release().partition('-')[0]}",
    }


def versions(servers: Servers, peers: Mapping[str, Peer]) -> dict[str, str]:
    found = {"python": platform.python_version(), **{name: version(name) for name in OURS}, **servers.versions}
    for peer in peers.values():
        found |= peer.versions
    return found
