"""The storm: many executions while everything that can die does, compared with a calm run of the same requests."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.submit import Submitter
from tests.chaos import load, oracle
from tests.chaos.diary import diary_of
from tests.chaos.fate import draw_fate
from tests.chaos.faults import Post
from tests.chaos.ground import Arena, Ground, catalogue_is_stored
from tests.chaos.monkey import Monkey, Timetable
from tests.chaos.recovery import recoveries
from tests.chaos.report import Report
from tests.chaos.supervise import End, Supervisor
from tests.fleet import wait_until

POST = Post(dropped=0.02, doubled=0.1, late=0.05)
ROLES = {"worker": 4, "orchestrator": 2}
BATCH = 10
OPEN = 150  # executions at once, so that a queue that is emptied held young messages
TICK = 0.1

RUNNING = "SELECT count(*) AS running FROM workflow_executions WHERE status NOT IN ('completed', 'failed', 'cancelled')"
TOTALS = """
SELECT sum(attempt)::integer AS attempts, sum(lost_count)::integer AS lost, sum(released_count)::integer AS released,
       sum(retry_count - lost_count)::integer AS retries FROM workflow_steps
"""


@dataclass(frozen=True, slots=True)
class Storm:
    """Its size, and what must have happened for it to count."""

    executions: int
    seed: int
    timetable: Timetable
    deaths: int
    refusals: int = 0
    post: Post = POST
    settle_seconds: float = 180.0  # for the end of what the storm left behind


def twin(ground: Ground, name: str, count: int) -> Mapping[str, Counter[str]]:
    """The outcome of each title, from a fleet that nobody harmed."""
    with ground.arena(name, threads=32) as arena:
        fleet = Supervisor(arena, {"worker": 1, "orchestrator": 1}, name, post=Post())
        fleet.start()
        try:
            load.submit(Submitter(arena.pool, arena.broker), load.every_variant(count))
            wait_until(lambda: _running(arena) == 0, 90, "the end of the calm run")
        finally:
            codes = fleet.end()
        assert set(codes) == {0}, f"a calm fleet ends with exit code 0, not {codes}"
        wrong = {name: found for name, found in oracle.violations(arena).items() if found}
        assert not wrong, f"the oracle finds fault with a calm run: {wrong}"
        return oracle.outcomes(arena)


def run_storm(ground: Ground, storm: Storm) -> Report:
    expected = twin(ground, "calm", storm.executions)
    called_before = sum(ground.tool_counts()["calls"].values())
    with ground.arena("storm", tools_ttl_seconds=2) as arena:
        begin = time.monotonic()
        fleet = Supervisor(arena, ROLES, str(storm.seed), fate=draw_fate, post=storm.post)
        monkey = Monkey(ground, arena, fleet, storm.timetable, f"{storm.seed}/monkey")
        try:
            fleet.start()
            wait_until(lambda: catalogue_is_stored(arena), 30, "the catalogue")
            monkey.start()
            _feed(arena, storm)
            wait_until(lambda: monkey.finished.is_set(), storm.timetable.seconds, "the end of the timetable")
            fleet.calm()
            _settle(arena, storm.settle_seconds)
            elapsed = time.monotonic() - begin
        finally:
            monkey.stop()
            codes = fleet.end()
        calls = sum(ground.tool_counts()["calls"].values()) - called_before
        report = _report(ground, arena, storm, fleet, monkey)
        report.figures["tool calls"] = calls
        report.figures["seconds"] = elapsed
        report.wrong |= oracle.violations(arena)
        report.wrong["unlike the calm run"] = oracle.differences(expected, oracle.outcomes(arena))
        report.wrong["processes that crashed"] = crashed(fleet.ends)
        report.wrong["roles that did not stop when asked"] = [code for code in codes if code not in (0, None, -9)]
        return report


def _feed(arena: Arena, storm: Storm) -> None:
    """Submits evenly over the timetable's time. Half of the batches ring no bell: the dispatcher finds them."""
    ringing, silent = Submitter(arena.pool, arena.broker), Submitter(arena.pool, None)
    begin, pause = time.monotonic(), storm.timetable.seconds * BATCH / storm.executions
    for number, batch in enumerate(load.batches(load.orders(storm.executions), BATCH)):
        wait_until(lambda due=begin + number * pause: time.monotonic() >= due, 60, "the next batch")  # type: ignore[misc]
        wait_until(lambda: _running(arena) < OPEN, 120, "room for more executions")
        load.submit(silent if number % 8 == 7 else ringing, batch)


def said(folder: Path, words: str) -> int:
    """How often the workers' logs say this: a storm in which the fence refused nothing has not tried it."""
    return sum(path.read_text(errors="replace").count(words) for path in folder.glob("*-worker.log"))


def crashed(ends: Sequence[End]) -> list[str]:
    """Processes that ended as no process should. A hang's traceback may crash while it is written (faulthandler reads
    the frames of running threads); such a process was to end anyway."""
    expected = (None, 0, 1, 6, -9)  # 1: the watchdog, 6: PostgreSQL was away at the start
    odd = [end for end in ends if end.code not in expected]
    return [f"{end.log.stem} with {end.code}" for end in odd if "Timeout (" not in end.log.read_text(errors="replace")]


def _running(arena: Arena) -> int:
    return int(arena.rows(RUNNING)[0]["running"])


def _settle(arena: Arena, seconds: float) -> None:
    """Waits for the end of all executions; one that does not end is the oracle's to tell."""
    deadline = time.monotonic() + seconds
    while _running(arena) and time.monotonic() < deadline:
        time.sleep(TICK)


def _report(ground: Ground, arena: Arena, storm: Storm, fleet: Supervisor, monkey: Monkey) -> Report:
    report = Report(f"the storm, seed {storm.seed}, PostgreSQL {ground.postgres}")
    table = storm.timetable
    report.at_least(
        "executions", int(arena.rows("SELECT count(*) AS n FROM workflow_executions")[0]["n"]), storm.executions
    )
    report.at_least(
        "steps", int(arena.rows("SELECT count(*) AS n FROM workflow_steps")[0]["n"]), storm.executions * load.STEPS
    )
    report.at_least("process deaths (kill -9)", fleet.deaths(), storm.deaths)
    fates = diary_of(arena.folder).read("fate")
    report.figures["  at a seam of the engine"] = len(fates)
    report.figures["  seams"] = len({(line["point"], line["moment"]) for line in fates})
    report.figures["  from outside"] = monkey.done["killed from outside"]
    itself = Counter(end.code for end in fleet.ends if end.code is not None and not end.killed)
    report.figures["processes that ended by themselves"] = ", ".join(f"{n} with {code}" for code, n in itself.items())
    report.at_least("FLUSHALL", monkey.done["FLUSHALL"], table.flushes)
    report.at_least("Valkey restarts", monkey.done["valkey restarts"], table.valkey_restarts)
    report.at_least("Valkey stalls", monkey.done["valkey stalls"], table.valkey_stalls)
    report.at_least("PostgreSQL restarts", monkey.done["postgresql restarts"], table.postgres_restarts)
    report.at_least("zombies", monkey.done["zombies"], min(table.zombies, 1))
    report.at_least("late results that the fence refused", said(arena.folder, "is no longer ours"), storm.refusals)
    report.figures["workers that went on without Redis"] = said(arena.folder, "taken from PostgreSQL")
    report.figures["times half of the connections were cut"] = monkey.done["connections cut by half"]
    totals = arena.rows(TOTALS)[0]
    report.figures |= {f"attempts {name}" if name != "attempts" else name: n for name, n in totals.items()}
    found = recoveries(arena, fleet.ends)
    report.figures["lost by workers that lived"] = found.alive
    report.figures["recovery, median seconds"] = found.median
    report.figures["recovery, worst seconds"] = found.worst
    return report
