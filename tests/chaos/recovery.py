"""How long work lay idle: from the death of a worker to the next claim of each step it held."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.diary import worker_pids
from tests.chaos.ground import Arena
from tests.chaos.supervise import End

# Attempts that the reaper took away from a worker, and when their step was claimed again.
LOST = """
SELECT lost.holder::text AS worker_id, extract(epoch FROM lost.at)::float8 AS lost_at,
       (SELECT extract(epoch FROM min(t.at))::float8 FROM chaos_transitions t
         WHERE t.step_id = lost.step_id AND t.id > lost.id AND t.new_status = 'running') AS claimed_at
  FROM chaos_transitions lost
 WHERE lost.old_status = 'running' AND lost.new_status = 'pending' AND lost.application_name = 'orchestrator'
"""


@dataclass(frozen=True, slots=True)
class Recoveries:
    """`seconds` for the attempts of workers that died or were stopped; `alive` counts those of others."""

    seconds: tuple[float, ...]
    alive: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds) if self.seconds else 0.0

    @property
    def worst(self) -> float:
        return max(self.seconds, default=0.0)


def recoveries(arena: Arena, ends: Sequence[End]) -> Recoveries:
    pids = worker_pids(arena.folder)
    found, alive = [], 0
    for row in arena.rows(LOST):
        ended = [end.at for end in ends if end.pid == pids.get(row["worker_id"]) and end.at <= row["lost_at"]]
        if not ended:
            alive += 1
        elif row["claimed_at"] is not None:
            found.append(row["claimed_at"] - max(ended))
    return Recoveries(tuple(found), alive)
