"""Pages by position: a cursor is where the last page ended, and which listing it belongs to.

Invariant: a page at any depth costs the same, and rows that are added meanwhile are neither shown twice nor left out.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from control_center.api.problems import Problem


def encode_cursor(filters: Mapping[str, Any], created_at: datetime, row_id: UUID) -> str:
    """An opaque text for URLs."""
    position = [_mark(filters), created_at.isoformat(), str(row_id)]
    return base64.urlsafe_b64encode(json.dumps(position).encode()).rstrip(b"=").decode()


def decode_cursor(filters: Mapping[str, Any], cursor: str) -> tuple[datetime, UUID]:
    """Where the page begins. Raises Problem for a cursor that is none, or of other filters."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        mark, created_at, row_id = json.loads(base64.b64decode(padded, b"-_", validate=True))
        if mark == _mark(filters):
            moment = datetime.fromisoformat(created_at)
            if moment.tzinfo is not None:
                return moment, UUID(row_id)
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    raise Problem("foreign-cursor", "use the nextCursor of a listing with the same filters")


def _mark(filters: Mapping[str, Any]) -> str:
    written = json.dumps(filters, sort_keys=True, default=str)
    return hashlib.sha256(written.encode()).hexdigest()[:16]
