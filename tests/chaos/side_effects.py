"""Kills in the middle of calls: a destructive tool is never called twice, every other step recovers by itself.

The counting server is the witness. A destructive call that was interrupted has happened or not, nobody knows: its step
must end as outcome_unknown, for a person to decide.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from tests.chaos import oracle
from tests.chaos.fate import Fate, chance
from tests.chaos.faults import Post
from tests.chaos.ground import Arena, Ground, catalogue_is_stored
from tests.chaos.recovery import recoveries
from tests.chaos.report import Report
from tests.chaos.supervise import Supervisor
from tests.fleet import wait_until

SECONDS = 0.1  # that a call takes
WITHIN = (0.005, 0.06)  # after its beginning, death comes
WAITING = 40  # executions in hand at any time
WORKERS, THREADS = 5, 2
TOOLS = {"pay": "destructive", "put": "idempotent", "look": "read-only"}
WORKFLOWS = {
    tool: validate({"name": tool, "steps": [{"name": "only", "tool": f"chaos.{tool}", "params": {"seconds": SECONDS}}]})
    for tool in TOOLS
}

ENDS = """
SELECT e.id::text || ':' || s.step_name AS key, split_part(s.tool, '.', 2) AS tool, e.status, s.error_kind, s.attempt
  FROM workflow_executions e JOIN workflow_steps s ON s.execution_id = e.id
"""
UNFINISHED = "SELECT count(*) AS n FROM workflow_executions WHERE status = 'running'"


@dataclass(frozen=True, slots=True)
class Kills:
    """How many, and at most how long it may take."""

    number: int
    seed: int
    seconds: float


def in_the_middle(role: str, seed: str) -> Fate | None:
    """Every worker dies in one of its first calls."""
    return Fate("call", "during", chance(seed).randint(1, 3), WITHIN) if role == "worker" else None


def run_side_effects(ground: Ground, kills: Kills) -> Report:
    with ground.arena("side_effects", threads=THREADS) as arena:
        begin = time.monotonic()
        fill_catalogue(arena)
        known = time.monotonic() - begin
        roles = {"worker": WORKERS, "orchestrator": 1}
        fleet = Supervisor(arena, roles, str(kills.seed), fate=in_the_middle, post=Post())
        try:
            fleet.start()
            wait_until(lambda: _fed(arena) and fleet.deaths() >= kills.number, kills.seconds, f"{kills.number} kills")
            fleet.calm()
            wait_until(lambda: _unfinished(arena) == 0, 60, "the end of all executions")
        finally:
            fleet.end()
        report = Report(f"side effects, seed {kills.seed}, PostgreSQL {ground.postgres}")
        report.at_least("kills in the middle of calls", fleet.deaths(), kills.number)
        _judge(report, arena.rows(ENDS), ground.tool_counts())
        found = recoveries(arena, fleet.ends)
        report.figures["recovery, median seconds"] = found.median
        report.figures["recovery, worst seconds"] = found.worst
        report.figures["seconds from a worker's start to the catalogue"] = known
        report.figures["seconds"] = time.monotonic() - begin
        report.wrong |= oracle.violations(arena)
        return report


def fill_catalogue(arena: Arena) -> None:
    """A calm worker asks the server for its tools and stops: without the rows, a lost call counts as repeatable."""
    first = Supervisor(arena, {"worker": 1}, "first", post=Post())
    try:
        first.start()
        wait_until(lambda: catalogue_is_stored(arena), 30, "the catalogue")
    finally:
        first.end()


def _fed(arena: Arena) -> bool:
    """Keeps enough executions waiting, a third of each kind."""
    missing = WAITING - _unfinished(arena)
    if missing >= len(WORKFLOWS):
        submitter = Submitter(arena.pool, arena.broker)
        for workflow in WORKFLOWS.values():
            submitter.submit(workflow, [Request() for _ in range(missing // len(WORKFLOWS))])
    return True


def _unfinished(arena: Arena) -> int:
    return int(arena.rows(UNFINISHED)[0]["n"])


def _judge(report: Report, ends: list[dict[str, Any]], counts: Mapping[str, Any]) -> None:
    """Holds the steps' ends against what the server saw."""
    for tool, kind in TOOLS.items():
        calls: Mapping[str, int] = counts["keys"][tool]
        mine = [end for end in ends if end["tool"] == tool]
        keys = {end["key"] for end in mine}
        cut = keys & set(counts["cut"][tool])
        unknown = {end["key"] for end in mine if end["error_kind"] == "outcome_unknown"}
        done = {end["key"] for end in mine if end["status"] == "completed"}
        twice = {key for key in keys if calls.get(key, 0) > 1}
        report.figures[f"{kind}: steps, completed, unknown"] = f"{len(mine)}, {len(done)}, {len(unknown)}"
        report.figures[f"{kind}: cut in mid-call, called again"] = f"{len(cut)}, {len(twice)}"
        if tool == "pay":
            report.wrong["destructive tools called twice"] = sorted(twice)
            report.wrong["destructive calls cut, yet not unknown"] = sorted(cut - unknown)
            report.wrong["destructive steps that ended otherwise"] = sorted(keys - done - unknown)
        else:
            report.wrong[f"{kind} steps that did not recover"] = sorted(keys - done)
