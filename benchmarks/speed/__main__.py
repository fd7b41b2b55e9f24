"""AFU-9 beside other engines on the same servers, in one run: latency, throughput, waiting, submission, growth, real calls.

    python -m benchmarks.speed [--only W1,W2] [--peers dbos,dramatiq,restate] [--repeats 5] [--quick]

Repeat i of every case of a workload comes before repeat i+1 of any, so that noise meets all alike; a small run of each case
before them is thrown away. A complete run writes benchmarks/results.json and the tables in docs/performance.md; any other
(--only, fewer --peers, --quick) writes .bench/results.json. A case that fails is named, and the exit code is 1.
Needs Linux (/proc). docs/performance.md explains the figures.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.speed.cases import QUICK, Case, Cases, Sizes
from benchmarks.speed.install import HOME, REQUIREMENTS, ROOT, Peer, install
from benchmarks.speed.machine import machine, versions
from benchmarks.speed.measure import Figures
from benchmarks.speed.report import COLUMNS, TITLES, memory_per_slot, put_between_markers, ratios, record, tables
from benchmarks.speed.servers import Servers, open_servers

RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "performance.md"


class Run:
    """Runs cases and keeps what they say."""

    def __init__(self) -> None:
        self.figures: dict[tuple[str, str, str, int], list[Figures]] = defaultdict(list)
        self.failures: dict[str, str] = {}

    def workload(self, cases: list[Case], warm_up: list[Case], repeats: int) -> None:
        for case in warm_up:
            self.one(case, "warm-up")
        for repeat in range(1, repeats + 1):
            for case in cases:
                if figures := self.one(case, f"{repeat}/{repeats}"):
                    self.figures[case.workload, case.system, case.variant, case.size].append(figures)

    def one(self, case: Case, label: str) -> Figures | None:
        """Its figures; None if it fails, now or earlier."""
        name = f"{case.workload} {case.system}, {case.variant}, {case.size:,}"
        if name in self.failures:
            return None
        begin = time.monotonic()
        try:
            figures = case.run()
        except Exception as error:
            self.failures[name] = f"{type(error).__name__}: {error}"
            print(f"FAILED {name}: {self.failures[name]}", flush=True)
            return None
        told = ", ".join(
            f"{figures[key]:.2f} {title}" for key, title in COLUMNS[case.workload].items() if key in figures
        )
        spent, other = time.monotonic() - begin, figures["other_cpu_percent"]
        print(f"{label:>7} {name}: {told} (other load {other:.0f} %, took {spent:.0f} s)", flush=True)
        return figures

    def results(
        self, servers: Servers, peers: dict[str, Peer], missing: dict[str, str], repeats: int
    ) -> dict[str, Any]:
        records = [record(*key, figures) for key, figures in self.figures.items()]
        return {
            "machine": machine(),
            "versions": versions(servers, peers),
            "settings": servers.settings,
            "repeats": repeats,
            "ratios": ratios(records),
            "memory_per_slot_mb": memory_per_slot(records),
            "not_measured": missing,
            "failed": self.failures,
            "cases": records,
        }


def write(results: dict[str, Any], complete: bool) -> None:
    if complete:
        PAGE.write_text(put_between_markers(PAGE.read_text(), tables(results)))
    path = RESULTS if complete else HOME / "results.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(f"\n{tables(results)}\nwritten to {path.relative_to(ROOT)}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(TITLES), help="workloads: W1,W2,...")
    parser.add_argument("--peers", default=",".join(REQUIREMENTS), help="dbos,dramatiq,restate; empty for none")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that everything works")
    given = parser.parse_args()
    given.only, given.peers = given.only.split(","), [name for name in given.peers.split(",") if name]
    for name in {*given.only} - {*TITLES} | {*given.peers} - {*REQUIREMENTS}:
        parser.error(f"there is no {name}")
    return given


def end_in_order(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


def main() -> int:
    if sys.platform != "linux":
        sys.exit("CPU and memory are read from /proc: this needs Linux")
    given = arguments()
    signal.signal(signal.SIGTERM, end_in_order)
    peers, missing = install(given.peers)
    missing |= {name: "it was left out" for name in REQUIREMENTS if name not in given.peers}
    run = Run()
    with tempfile.TemporaryDirectory(prefix="afu9-speed-") as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs under another account and must reach its data
        with open_servers(Path(folder)) as servers:
            small = Cases(servers, peers, QUICK)
            cases = small if given.quick else Cases(servers, peers, Sizes())
            for workload in given.only:
                warm_up = [] if given.quick or workload == "W5" else small.of(workload)  # W5 runs what W2 and W1 ran
                run.workload(cases.of(workload), warm_up, given.repeats)
            results = run.results(servers, peers, missing, given.repeats)
    complete = not given.quick and set(given.only) == set(TITLES) and set(given.peers) == set(REQUIREMENTS)
    write(results, complete and not run.failures)
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
