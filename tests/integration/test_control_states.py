"""Every control in every state, in any order, while workers run steps: what must be true whatever happens."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from orchestrator.control import UNSET, Controller, Wish
from orchestrator.judge_control import ACTIONS, DECISIONS
from orchestrator.outcome import Failed, Succeeded
from persistence.errors import NotFound, Refused
from persistence.executions import get_execution, get_execution_steps
from persistence.pool import Pool, run
from tests.drive import drive, drive_some, status_of, submit
from tests.workflows import FunctionTools, sequence

STEPS = 4
LEGAL = {
    ("running", "paused"),
    ("running", "completed"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("paused", "running"),
    ("paused", "completed"),
    ("paused", "failed"),
    ("paused", "cancelled"),
    ("completed", "running"),
    ("failed", "running"),
    ("cancelled", "running"),
}
"""Of one control or one step; several may lie between two looks while workers run."""

controls = st.builds(
    lambda action, step, decision: Wish(
        action,
        actor="ada",
        step=None if action in ("pause", "resume", "cancel") else str(step),
        output={"by": "hand"} if action == "set-output" or (action, decision) == ("decide", "done") else UNSET,
        decision=decision if action == "decide" else None,
    ),
    st.sampled_from(sorted(ACTIONS)),
    st.integers(0, STEPS - 1),
    st.sampled_from(DECISIONS),
)
operations = st.lists(
    st.tuples(st.sampled_from(["control", "control", "work", "both"]), controls, st.integers(1, 3)), max_size=12
)


class Unsteady:
    """`test.echo` that fails now and then, as the seed says."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)  # noqa: S311

    def __call__(self, **arguments: Any) -> Any:
        chance = self._random.random()
        if chance < 0.15:
            return Failed("tool_error", "it broke")
        if chance < 0.2:
            return Failed("timeout", "no answer", "unknown")
        return Succeeded(arguments)


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # threads of the pool do, at any time
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(operations, st.integers(0, 2**32), st.booleans())
def test_whatever_is_done_in_whatever_state_history_and_invariants_hold(
    pool: Pool, wanted: list[tuple[str, Wish, int]], seed: int, goes_on: bool
) -> None:
    tools = FunctionTools(echo=Unsteady(seed))
    tools.repeatable = seed % 2 == 0
    options = {"retry": {"maxAttempts": 2, "initialDelayMs": 100}, "config": {"continueOnError": goes_on}}
    known = [submit(pool, sequence(STEPS, **options))]
    controller = Controller(pool, None)
    seen = Seen(pool)
    for kind, wish, steps in wanted:
        execution_id = known[seed % len(known)]
        before = status_of(pool, execution_id)
        threads = []
        if kind in ("work", "both"):
            workers = 2 if kind == "both" else 1
            threads = [
                threading.Thread(target=drive_some, args=(pool, execution_id, tools, steps)) for _ in range(workers)
            ]
        for thread in threads:
            thread.start()
        if kind in ("control", "both"):
            try:
                done = controller.carry_out(execution_id, wish)
            except (Refused, NotFound):  # a replay has one step only
                event(f"{wish.action} refused while {before}")
            else:
                event(f"{wish.action} done while {before}")
                if done.execution_id != execution_id:
                    known.append(done.execution_id)
        for thread in threads:
            thread.join()
        after = status_of(pool, execution_id)
        if kind == "control" and after != before:
            assert (before, after) in LEGAL, wish.action
        for one in known:
            seen.check(one)
    for one in known:
        assert drive(pool, one, tools) in ("paused", "completed", "failed", "cancelled")
        seen.check(one)
    assert run(pool, "stuck_executions", {"limit": 10}) == []


class Seen:
    """What was there at the last look."""

    def __init__(self, pool: Pool):
        self._pool = pool
        self._events: dict[UUID, list[Mapping[str, Any]]] = {}
        self._results: dict[UUID, list[Mapping[str, Any]]] = {}

    def check(self, execution_id: UUID) -> None:
        """History has only grown, and the rows agree with each other."""
        events = run(self._pool, "get_execution_events", {"execution_id": execution_id})
        results = run(self._pool, "step_results", {"execution_id": execution_id})
        assert events[: len(self._events.get(execution_id, []))] == self._events.get(execution_id, [])
        assert results[: len(self._results.get(execution_id, []))] == self._results.get(execution_id, [])
        self._events[execution_id], self._results[execution_id] = events, results
        row = get_execution(self._pool, execution_id)
        steps = get_execution_steps(self._pool, execution_id)
        assert row is not None
        finished = [_is_finished(step, row["continue_on_error"]) for step in steps]
        for index, step in enumerate(steps):
            if step["status"] in ("completed", "failed", "skipped") and step["attempt"]:
                assert step["attempt"] == 1 + step["retry_count"] + step["released_count"]
            assert step["status"] != "running"
            if step["status"] == "pending" and index:
                assert step["next_run_at"] is None or finished[index - 1]
            if row["status"] == "running" and step["status"] == "pending" and (not index or finished[index - 1]):
                assert step["next_run_at"] is not None
        if row["status"] == "completed":
            assert all(finished)
            assert row["output"] is not None
        if row["status"] in ("running", "paused"):
            assert row["completed_at"] is None
        if row["status"] in ("completed", "failed", "cancelled"):
            assert row["completed_at"] is not None
        assert {kept["step_index"] for kept in results} <= set(range(STEPS))


def _is_finished(step: Mapping[str, Any], goes_on: bool) -> bool:
    return step["status"] in ("completed", "skipped") or (step["status"] == "failed" and goes_on)
