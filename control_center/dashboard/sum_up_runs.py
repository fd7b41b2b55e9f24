"""What the runs on a page have in common: how many went well, how long they and their steps took. Pure, and of these runs
only: nothing here grows with what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from control_center.progress import elapsed_ms

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sum:
    """`went_well` of `ended`; times in ms of what went well, None without any; `cost_nanos` on average, of those that have
    a cost."""

    ended: int
    went_well: int
    p50: float | None
    p95: float | None
    retries: int
    cost_nanos: int | None

    @property
    def success(self) -> str:
        """A share, or a dash."""
        return "–" if not self.ended else f"{100 * self.went_well / self.ended:.3g} %"


def sum_up(rows: Sequence[Row]) -> Sum:
    """Of runs or of steps: rows with status, duration_ms, cost_nanos, and of steps retry_count."""
    good = [row for row in rows if row["status"] == "completed"]
    times = [row["duration_ms"] for row in good if row["duration_ms"] is not None]
    costs = [row["cost_nanos"] for row in rows if row["cost_nanos"] is not None]
    return Sum(
        ended=len(good) + sum(row["status"] == "failed" for row in rows),
        went_well=len(good),
        p50=percentile(times, 50),
        p95=percentile(times, 95),
        retries=sum(row.get("retry_count") or 0 for row in rows),
        cost_nanos=round(sum(costs) / len(costs)) if costs else None,
    )


def percentile(values: Iterable[float], share: int) -> float | None:
    """The smallest value that `share` per cent of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(-(-len(ordered) * share // 100), 1) - 1] if ordered else None


def with_duration(run: Row) -> dict[str, Any]:
    """A run's row with duration_ms, None until it ended."""
    ended = run["completed_at"] is not None and run["started_at"] is not None
    return {**run, "duration_ms": elapsed_ms(run["started_at"], run["completed_at"]) if ended else None}


def merge_names(runs: Iterable[Sequence[str]]) -> list[str]:
    """The names of all runs' steps, each once: in the first run's order, what only others have behind its predecessor."""
    merged: list[str] = []
    for names in runs:
        place = 0
        for name in names:
            if name in merged:
                place = merged.index(name) + 1
            else:
                merged.insert(place, name)
                place += 1
    return merged
