"""Time-ordered ids (UUID version 7, RFC 9562): new rows land side by side in the index."""

from __future__ import annotations

import os
import time
from uuid import UUID


def time_ordered_uuid() -> UUID:
    """48 bits of milliseconds since 1970, then 74 random bits."""
    random = int.from_bytes(os.urandom(10))
    milliseconds = time.time_ns() // 1_000_000
    high = (milliseconds << 16) | 0x7000 | (random >> 68)
    low = (0b10 << 62) | (random & ((1 << 62) - 1))
    return UUID(int=(high & ((1 << 64) - 1)) << 64 | low)
