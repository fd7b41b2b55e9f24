"""`make chaos`: the storm, the side effects and the lost worker, at full size, each with its table.

CHAOS_EXECUTIONS (1000), CHAOS_MINUTES (3, about, for all three) and CHAOS_SEED (drawn, and printed) set it. AFU9_PG_BIN
chooses another PostgreSQL. Ends with 1 if anything was violated or a minimum was not reached.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from collections.abc import Callable

from tests.chaos.ground import Ground, open_ground
from tests.chaos.lost_worker import Loss, run_lost_worker
from tests.chaos.monkey import Timetable
from tests.chaos.report import Report
from tests.chaos.side_effects import Kills, run_side_effects
from tests.chaos.storm import Storm, run_storm

STORM_SHARE = 0.4  # of the time; the rest is for the calm run, the settling and the other two
LOSS = Loss(steps=500, threads=512, lease_seconds=3, call_seconds=15)


def timetable(minutes: float) -> Timetable:
    """The minima of the default, and more of everything in a longer storm."""
    seconds = minutes * 60 * STORM_SHARE
    times = max(minutes / 3, 1.0)
    return Timetable(
        seconds,
        flushes=round(5 * times),
        valkey_restarts=round(3 * times),
        valkey_stalls=round(2 * times),
        postgres_restarts=round(3 * times),
        cuts=round(6 * times),
        zombies=round(14 * times),
        kills=round(15 * times),
    )


def main() -> int:
    executions = int(os.environ.get("CHAOS_EXECUTIONS", "1000"))
    minutes = float(os.environ.get("CHAOS_MINUTES", "3"))
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000))
    storm = Storm(executions, seed, timetable(minutes), deaths=round(100 * min(minutes / 3, 1)), refusals=1)
    scenarios: list[Callable[[Ground], Report]] = [
        lambda ground: run_storm(ground, storm),
        lambda ground: run_side_effects(ground, Kills(300, seed, seconds=240)),
        lambda ground: run_lost_worker(ground, LOSS),
    ]
    for engine in ("persistence", "orchestrator"):  # the harness's own hands are cut off too, and say so
        logging.getLogger(engine).setLevel(logging.CRITICAL)
    begin = time.monotonic()
    print(f"chaos: {executions} executions, about {minutes:g} minutes, CHAOS_SEED={seed}", flush=True)
    reports = []
    with open_ground() as ground:
        for scenario in scenarios:
            reports.append(scenario(ground))
            print(reports[-1].text(), flush=True)
    good = all(report.good for report in reports)
    print(f"chaos: {'all held' if good else 'NOT ALL HELD'} after {time.monotonic() - begin:.0f} s, CHAOS_SEED={seed}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
