"""Who changed what: one row per change, beside the change itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from control_center.api.auth import Principal
from persistence.json_value import encode_json
from persistence.pool import Pool, run


def audit(
    pool: Pool, principal: Principal, action: str, target: str | None, detail: Mapping[str, Any] | None = None
) -> None:
    """action: `workflow.disable`, `key.create`, ...; target: a name or an id."""
    parameters = {
        "principal": principal.name,
        "action": action,
        "target": target,
        "detail": encode_json(dict(detail)) if detail is not None else None,
    }
    run(pool, "write_audit", parameters)
