"""How long to wait before a failed step is tried again."""

from __future__ import annotations

from orchestrator.definition import Retry


def delay_seconds(retry: Retry, retries_so_far: int, *, jitter: float = 0.0) -> float:
    """Seconds until the next attempt, when `retries_so_far` retries (0, 1, …) have already been made.

    The first retry waits initialDelayMs, whatever the strategy. backoffMultiplier says how many times as long the second one
    waits; from there `linear` adds the same difference each time and `exponential` multiplies by the same factor. With
    initialDelayMs 1000 and multiplier 3: linear 1, 3, 5, 7 s; exponential 1, 3, 9, 27 s; fixed 1, 1, 1, 1 s.
    No delay exceeds maxDelayMs.

    jitter: the share of the delay to take off, 0 to 1. The caller draws it; it shortens, so that the cap holds and many
    steps that failed together still come back apart.
    """
    longest = float(retry.longest_delay_ms)
    delay = min(retry.initial_delay_ms * _growth(retry, retries_so_far), longest)
    return delay * (1 - jitter) / 1000


def _growth(retry: Retry, retries_so_far: int) -> float:
    """How many times initialDelayMs the next delay is, before the cap."""
    match retry.backoff:
        case "fixed":
            return 1.0
        case "linear":
            return 1 + (retry.backoff_multiplier - 1) * retries_so_far
        case "exponential":
            try:
                return float(retry.backoff_multiplier**retries_so_far)
            except OverflowError:
                return float("inf")
