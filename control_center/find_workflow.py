"""A registered workflow by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from persistence.errors import NotFound
from persistence.pool import Pool, run


def find_workflow(pool: Pool, name: str, version: int | None = None) -> Mapping[str, Any]:
    """The newest version's row, or the given one's. Raises NotFound."""
    rows = run(pool, "newest_workflow", {"name": name, "version": version})
    if not rows:
        raise NotFound(f"no workflow is named {name}" + (f", version {version}" if version else ""))
    return rows[0]
