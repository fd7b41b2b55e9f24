"""What ended in a window of time, from the rollups alone: however many rows there are, or no longer are.

A window is whole bars, the one under way included: it begins where a bar does and ends with what is counted. It is covered by
the largest buckets that fit, five minutes at its end only: a long one reads little more than a short one, and both are exact.
Everything is UTC: a day has 24 hours.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from persistence.pool import Pool, run

By = Literal["workflow", "step", "tool", "server", "time"]
WINDOWS = ("24h", "7d", "30d", "90d")
BARS = {"24h": (24, 3600), "7d": (56, 3 * 3600)}  # how many, and their seconds; of the others a day each
SIZES = (86_400, 3600, 300)  # seconds of a bucket
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ENDED = ("completed", "failed", "cancelled", "skipped")
MOST = 50  # names of one kind; those beyond the most busy ones are not told apart
NEXT = timedelta(seconds=300 + 60)  # after `until` more is counted: a bucket, and the lag of orchestrator/roll_up.py


@dataclass(frozen=True, slots=True)
class Window:
    """[since, until) in whole buckets; `since` begins a bar of `bar` seconds. `until` is None where nothing is counted."""

    name: str
    since: datetime
    until: datetime | None
    bar: int
    read_at: datetime

    @property
    def next_at(self) -> datetime:
        """When there is more to see, if an orchestrator runs."""
        return (self.until or _floor(self.read_at, 300)) + NEXT

    def bars(self) -> list[datetime]:
        """The begin of each."""
        size = timedelta(seconds=self.bar)
        return [self.since + n * size for n in range(-((self.since - (self.until or self.since)) // size))]


@dataclass(slots=True)
class Stat:
    """What ended under a name. `bins`: of the completed ones, how many in each class of duration."""

    name: str
    workflow: str = ""
    at: datetime | None = None
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    bins: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    duration_ms: int = 0

    def add(self, row: Any) -> None:
        self.counts[row["outcome"]] += row["endings"]
        if row["outcome"] == "completed":
            self.bins[row["bin"]] += row["endings"]
            self.duration_ms += row["duration_ms"]

    @property
    def endings(self) -> int:
        return sum(self.counts[name] for name in ENDED)

    @property
    def success_rate(self) -> float | None:
        """Of those that completed or failed: whoever cancels or skips says nothing of success."""
        judged = self.counts["completed"] + self.counts["failed"]
        return self.counts["completed"] / judged if judged else None

    @property
    def mean_ms(self) -> float | None:
        return self.duration_ms / self.counts["completed"] if self.counts["completed"] else None

    def quantile(self, share: float) -> float | None:
        return quantile(self.bins, share)


def find_window(pool: Pool, name: str) -> Window:
    """Raises Afu9Error."""
    (row,) = run(pool, "rollup_progress")
    return window_of(name, row["rolled_until"], row["read_at"])


def find_days(pool: Pool, days: int) -> Window:
    (row,) = run(pool, "rollup_progress")
    return whole_days(days, row["rolled_until"], row["read_at"])


def window_of(name: str, until: datetime | None, read_at: datetime) -> Window:
    if name not in BARS:
        return whole_days(int(name[:-1]), until, read_at)
    end = (until or read_at).astimezone(UTC)
    count, size = BARS[name]
    since = _ceiling(end, size) - count * timedelta(seconds=size)
    return Window(name, since, until and end, size, read_at.astimezone(UTC))


def whole_days(days: int, until: datetime | None, read_at: datetime) -> Window:
    """UTC days, today included."""
    since = _floor(read_at.astimezone(UTC), 86_400) - timedelta(days=days - 1)
    end = until and max(until.astimezone(UTC), since)
    return Window(f"{days}d", since, end, 86_400, read_at.astimezone(UTC))


def cover(since: datetime, until: datetime, sizes: Sequence[int] = SIZES) -> Iterator[tuple[int, datetime, datetime]]:
    """(seconds, since, until) of buckets that together are the span; each size where no larger one fits."""
    if since >= until or not sizes:
        return
    size, *smaller = sizes
    first, last = _ceiling(since, size), _floor(until, size)
    if first >= last:
        yield from cover(since, until, smaller)
        return
    yield from cover(since, first, smaller)
    yield size, first, last
    yield from cover(last, until, smaller)


def read_stats(
    pool: Pool, window: Window, by: By, workflow: str | None = None, *, slowest: bool = False, most: int = MOST
) -> list[Stat]:
    """By time every bar, in order; else the most busy names first, or the slowest. By workflow all others are '…', last."""
    parameters = _spans(window, by == "time") | {"by": by, "workflow": workflow, "limit": most}
    if by in ("workflow", "time"):
        rows = run(pool, "execution_stats", parameters | {"bar": window.bar}, prepare=False)
    else:
        rows = run(pool, "step_stats", parameters | {"slowest": slowest}, prepare=False)
    if by == "time":
        bars = {at: Stat(at.isoformat().replace("+00:00", "Z"), at=at) for at in window.bars()}
        for row in rows:
            bars[row["bar"].astimezone(UTC)].add(row)
        return list(bars.values())
    found: dict[tuple[str, str], Stat] = {}
    for row in rows:
        name = row["name"] if by not in ("workflow", "time") else row["workflow"]
        key = ("…" if name is None else name, row["workflow"] or "")
        found.setdefault(key, Stat(key[0], key[1])).add(row)
    others = found.pop(("…", ""), None)
    ranked = sorted(found.values(), key=lambda one: one.mean_ms or 0 if slowest else one.endings, reverse=True)
    return [*ranked, *([others] if others else [])]


def read_throughput(
    pool: Pool, window: Window, workflow: str | None, most: int = MOST
) -> dict[str, list[tuple[int, int]]]:
    """For each workflow (ended, failed) of each bar."""
    rows = run(
        pool,
        "throughput",
        _spans(window, True) | {"workflow": workflow, "limit": most, "bar": window.bar},
        prepare=False,
    )
    bars = {at: number for number, at in enumerate(window.bars())}
    found: dict[str, list[tuple[int, int]]] = {}
    for row in rows:
        line = found.setdefault(row["workflow"], [(0, 0)] * len(bars))
        line[bars[row["bar"].astimezone(UTC)]] = (row["endings"], row["failed"] or 0)
    return found


def read_errors(
    pool: Pool, window: Window, workflow: str | None = None, kind: str | None = None, most: int = 20
) -> list[dict[str, Any]]:
    """The most frequent errors of failed steps: fingerprint, kind, tool, shape, first_seen, last_seen, example, failures."""
    return run(
        pool,
        "error_stats",
        _spans(window, False) | {"workflow": workflow, "kind": kind, "limit": most},
        prepare=False,
    )


def total_of(stats: Sequence[Stat]) -> Stat:
    """All of them as one."""
    whole = Stat("")
    for one in stats:
        for name, count in one.counts.items():
            whole.counts[name] += count
        for number, count in one.bins.items():
            whole.bins[number] += count
        whole.duration_ms += one.duration_ms
    return whole


def quantile(bins: dict[int, int], share: float) -> float | None:
    """The duration (ms) that so large a share does not exceed, found inside of its class: at most 19 % from the true one."""
    total = sum(bins.values())
    rank, before = share * total, 0
    for number in sorted(bins):
        if before + bins[number] >= rank and bins[number]:
            upper, lower = 2 ** (number / 4), 2 ** ((number - 1) / 4) if number else 0.5
            return float(lower * (upper / lower) ** ((rank - before) / bins[number]))
        before += bins[number]
    return None


def _spans(window: Window, bars: bool) -> dict[str, Any]:
    sizes = [size for size in SIZES if not bars or size <= window.bar]
    spans = list(cover(window.since, window.until, sizes)) if window.until else []
    return {
        "seconds": [one[0] for one in spans],
        "sinces": [one[1] for one in spans],
        "untils": [one[2] for one in spans],
    }


def _floor(at: datetime, seconds: int) -> datetime:
    return EPOCH + (at - EPOCH) // timedelta(seconds=seconds) * timedelta(seconds=seconds)


def _ceiling(at: datetime, seconds: int) -> datetime:
    return EPOCH - (EPOCH - at) // timedelta(seconds=seconds) * timedelta(seconds=seconds)


def searchable(shape: str) -> str | None:
    """The longest part of an error's shape that every such error has, as a search takes it."""
    parts = [part.strip() for part in re.split(r"<(?:id|time|hex|n)>", shape)]
    longest = max(parts, key=len)[:100].strip()
    return longest if len(longest) >= 2 else None
