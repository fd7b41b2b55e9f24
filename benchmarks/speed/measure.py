"""What a run costs: CPU seconds and peak memory by group of processes, read from /proc; and the figures of step times.

Figures are flat: `cpu_s.workers`, `peak_mb.postgres`, `steps_per_s`. Memory is the proportional set size (shared pages
divided among their users), looked at every two seconds and at the end: a look takes about 16 ms. A group is its processes
and all that descend from them.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

Figures: TypeAlias = dict[str, float]

TICKS = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1
PROC = Path("/proc")


def quantile(values: Sequence[float], share: float) -> float:
    """Between the two nearest values, linearly."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def latency_figures(stamps: Sequence[Sequence[float]], firsts: Sequence[float]) -> Figures:
    """`stamps`: for each execution the times of its steps; `firsts`: from each submission to its first step. In seconds."""
    gaps = [(later - earlier) * 1000 for times in stamps for earlier, later in pairwise(times)]
    return {
        "step_ms_p50": quantile(gaps, 0.5),
        "step_ms_p99": quantile(gaps, 0.99),
        "step_ms_mean": statistics.fmean(gaps),
        "first_ms_p50": quantile(firsts, 0.5) * 1000,
    }


def span_figures(begin: float, end: float, steps: int) -> Figures:
    return {"span_s": end - begin, "steps_per_s": steps / (end - begin)}


class Meter:
    """`with Meter({"workers": [pid, ...], ...}) as meter:` and afterwards `meter.figures`."""

    def __init__(self, groups: Mapping[str, Sequence[int]]):
        self._groups = groups
        self._peaks = dict.fromkeys(groups, 0.0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.figures: Figures = {}

    def __enter__(self) -> Meter:
        self._begin = time.monotonic(), self._cpu(), _busy()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        began, cpu_before, busy_before = self._begin
        cpu, busy, wall = self._cpu(), _busy() - busy_before, time.monotonic() - began
        self._stop.set()
        self._thread.join()
        self._look()
        spent = {group: cpu[group] - cpu_before[group] for group in cpu}
        self.figures = {f"cpu_s.{group}": seconds for group, seconds in spent.items()}
        self.figures |= {f"peak_mb.{group}": peak for group, peak in self._peaks.items()}
        # What the rest of the machine did meanwhile: a high figure spoils the run.
        self.figures["other_cpu_percent"] = max(0.0, 100 * (busy - sum(spent.values())) / (wall * CORES))

    def _cpu(self) -> Figures:
        parents = _parents()
        return {group: sum(map(_cpu_of, self._members(pids, parents))) for group, pids in self._groups.items()}

    def _look(self) -> None:
        parents = _parents()
        for group, pids in self._groups.items():
            megabytes = sum(_memory_of(pid) for pid in self._members(pids, parents)) / 1024
            self._peaks[group] = max(self._peaks[group], megabytes)

    def _watch(self) -> None:
        while not self._stop.wait(2.0):
            self._look()

    def _members(self, pids: Sequence[int], parents: Mapping[int, int]) -> set[int]:
        """Of this process only itself: all others descend from it."""
        members = set(pids)
        roots = members - {os.getpid()}
        for pid in parents:
            ancestor = pid
            while ancestor in parents and ancestor not in roots:
                ancestor = parents[ancestor]
            if ancestor in roots:
                members.add(pid)
        return members


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on: [1] parent, [11] and [12] own ticks, [13] and [14] reaped ones'."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parents() -> dict[int, int]:
    stats = {int(entry.name): _stat(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdecimal()}
    return {pid: int(fields[1]) for pid, fields in stats.items() if fields}


def _cpu_of(pid: int) -> float:
    fields = _stat(pid)
    own = pid == os.getpid()  # what it has reaped is no part of it
    return sum(int(ticks) for ticks in fields[11 : 13 if own else 15]) / TICKS if fields else 0.0


def _memory_of(pid: int) -> float:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith("Pss:")), 0.0)


def _busy() -> float:
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(int, (PROC / "stat").read_text().split()[1:11])
    return (user + nice + system + irq + softirq) / TICKS
