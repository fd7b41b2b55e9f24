"""Counts what ended, in buckets of five minutes, hours and days that outlive the rows. Any number of orchestrators may do it.

Invariant: a bucket's counts and how far all is counted are one transaction, and one works at a time (roll_up in schema.sql):
each end is counted exactly once, whoever dies. Nothing is counted before every transaction that could still end something in
the bucket is over. docs/analytics.md says what counts as an end.
"""

from __future__ import annotations

import logging

from persistence.errors import TooSlow
from persistence.pool import Pool, run

log = logging.getLogger(__name__)

BUCKET = 300  # seconds
# Seconds after a bucket's end; no transaction of ours may take half as long. Where several database users run the fleet,
# roll_up does not see when the others' began: then this alone keeps ends from being missed.
LAG = 60.0
AT_ONCE = 3600  # seconds that one transaction counts where much is behind
IDLE = 15.0  # seconds


def roll_up(pool: Pool, lag: float = LAG) -> float:
    """Counts the next closed buckets; seconds until it is worth looking again."""
    try:
        told = run(pool, "roll_up", {"lag": lag, "seconds": AT_ONCE})
    except TooSlow:
        log.warning("rollups: an hour is too much at once; going on with five minutes")
        told = run(pool, "roll_up", {"lag": lag, "seconds": BUCKET})
    if not told or told[0]["done"]:
        return IDLE
    return 0.0
