"""Two executions as rows: which steps belong together, and which difference is the first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from control_center.show_comparison import show_comparison
from orchestrator.compare import LISTED_IN_ALL, Comparison, Run, compare
from orchestrator.difference import LIMIT

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMAS = {("t.a", "old"): {"inputSchema": {"type": "object"}}, ("t.a", "new"): {"inputSchema": {}}}


def step(name: str, **more: Any) -> dict[str, Any]:
    """A row of queries/compare_steps.sql."""
    kept = {"step_name": name, "status": "completed", "tool": "t.a", "input": {}, "output": {"of": name}, "error": None}
    return {**kept, "error_kind": None, "retry_count": 0, "lost_count": 0, "duration_ms": 5, "tool_hash": "old", **more}


def run_of(*steps: str | Mapping[str, Any], **more: Any) -> Run:
    """An execution with these steps, defined as they stand."""
    rows = [dict(one) if isinstance(one, Mapping) else step(one) for one in steps]
    for index, row in enumerate(rows):
        row["step_index"] = index
    defined = [row.pop("defined", {"name": row["step_name"], "tool": row["tool"], "params": {}}) for row in rows]
    execution = {"id": uuid4(), "status": "completed", "input": {}, "error": None, "title": None, "context": {}}
    execution |= {"variables": {}, "started_at": BEGIN, "completed_at": BEGIN + timedelta(milliseconds=30)}
    execution |= {"definition": {"name": "flow", "steps": defined}, "definition_hash": "h"}
    return Run(execution | more, rows, SCHEMAS)


def first(a: Run, b: Run) -> tuple[str, str | None, int, str] | None:
    found = compare(a, b).first_divergence
    return None if found is None else (found.what, found.step, found.iteration, found.change.path)


def verdicts(comparison: Comparison) -> str:
    marks = {"same": "=", "changed": "!", "added": "+", "removed": "-"}
    return " ".join(f"{marks[one.verdict]}{'^' * one.moved}{one.name}" for one in comparison.steps)


def test_an_execution_does_not_diverge_from_itself() -> None:
    """Nor from one with other ids, times, durations, costs, names and titles."""
    one = run_of("a", "b", step("a", status="failed", error="no", error_kind="tool_error"))
    assert first(one, one) is None
    other = run_of(
        step("a", duration_ms=9, cost=0.5),
        step("b", defined={"name": "b", "tool": "t.a", "params": {}, "title": "B"}),
        step("a", status="failed", error="no", error_kind="tool_error"),
        title="another",
        completed_at=None,
    )
    other.execution["definition"]["description"] = "words"
    comparison = compare(one, other)
    assert comparison.first_divergence is None
    assert verdicts(comparison) == "=a =b =a"
    assert comparison.duration_ms == (30, None)
    assert comparison.cost == (None, 0.5)


def test_steps_of_one_name_belong_together_by_their_order() -> None:
    """Counted from 0."""
    a = run_of("poll", "poll", "poll")
    b = run_of("poll", step("poll", output=1), "poll", "poll")
    assert first(a, b) == ("output", "poll", 1, "")
    assert verdicts(compare(a, b)) == "=poll !poll =poll +poll"


@pytest.mark.parametrize(
    ("a", "b", "expected", "seen"),
    [
        ("a c", "a b c", ("extra", "b", "/steps/1"), "=a +b =c"),
        ("a b c", "a c", ("missing", "b", "/steps/1"), "=a -b =c"),
        ("a b c", "a x c", ("missing", "b", "/steps/1"), "=a -b +x =c"),
        ("a b", "a b c", ("extra", "c", "/steps/2"), "=a =b +c"),
        ("a b c d", "b c d a", ("order", "a", "/steps/3"), "!^a =b =c =d"),
        ("a b c d", "d a b c", ("order", "d", "/steps/0"), "=a =b =c !^d"),
        ("a b c", "x a c b", ("extra", "x", "/steps/0"), "+x =a !^b =c"),
        ("a b", "c d", ("missing", "a", "/steps/0"), "-a -b +c +d"),
    ],
)
def test_steps_that_came_went_or_moved(a: str, b: str, expected: tuple[str, str, str], seen: str) -> None:
    """The first in A's order; what only B has stands before the step that follows it there."""
    runs = run_of(*a.split()), run_of(*b.split())
    found = first(*runs)
    assert found is not None
    assert (found[0], found[1], found[3]) == expected
    assert verdicts(compare(*runs)) == seen


DEFINED = {"name": "b", "tool": "t.a", "params": {"n": 1}}
CAUSES: list[tuple[str, str | None, str, dict[str, Any]]] = [
    ("definition", "b", "/params/n", {"defined": DEFINED}),
    ("tool_schema", "b", "/inputSchema/type", {"tool_hash": "new"}),
    ("params", "b", "/n", {"input": {"n": 2}}),
    ("status", "b", "", {"status": "failed"}),
    ("error", "b", "/kind", {"error": "no", "error_kind": "tool_error"}),
    ("retries", "b", "/failed", {"retry_count": 2}),
    ("output", "b", "", {"output": 9}),
]


@pytest.mark.parametrize("position", range(len(CAUSES)))
def test_within_a_step_the_cause_comes_first(position: int) -> None:
    """Definition, schema, params, status, error, retries, output: each before all that follow it."""
    what, name, path, _ = CAUSES[position]
    changed: dict[str, Any] = {}
    for *_, change in CAUSES[position:][::-1]:
        changed |= change
    a, b = run_of("a", "b", "c"), run_of("a", step("b", **changed), step("c", output="too"))
    assert first(a, b) == (what, name, 0, path)


def test_what_both_were_started_with_comes_before_all_steps() -> None:
    """The definition's config, the input, the context; then the steps; how the executions ended comes last."""
    changed = {"definition": {"config": {"maxRetries": 2}, "steps": []}, "input": {"n": 1}, "context": {"repo": {}}}
    changed |= {"status": "failed", "error": "late"}
    expected = [
        ("definition", "/config/maxRetries"),
        ("input", "/n"),
        ("context", "/repo"),
        ("output", ""),
        ("status", ""),
        ("error", "/message"),
    ]
    b = run_of("a", step("b", output=1), **changed)
    for (what, path), key in zip(expected, ["definition", "input", "context", None, "status", None], strict=True):
        a = run_of("a", "b")
        found = first(a, b)
        assert found is not None
        assert (found[0], found[3]) == (what, path)
        if what == "output":
            b = run_of("a", "b", status="failed", error="late")
        elif key is not None:
            b = Run(dict(b.execution) | {key: a.execution[key]}, b.steps, SCHEMAS)


def test_what_was_never_there_is_no_difference() -> None:
    """Params of a step that was not reached, the output of one that did not complete, a schema that nobody knows."""
    pending = step("b", status="pending", input=None, output=None, tool_hash=None)
    assert [delta.what for delta in compare(run_of("a", "b"), run_of("a", pending)).steps[1].deltas] == ["status"]


def test_another_tool_is_a_change_of_the_definition() -> None:
    """Its schema is another tool's, and not compared."""
    other = step("b", tool="t.b", tool_hash="new", defined={"name": "b", "tool": "t.b", "params": {}})
    comparison = compare(run_of("a", "b"), run_of("a", other))
    assert [delta.what for delta in comparison.steps[1].deltas] == ["definition"]


def test_the_condition_has_two_names() -> None:
    """`if` and `condition` say the same."""
    a, b = [
        run_of(step("a", defined={"name": "a", "tool": "t.a", "params": {}, word: "${x}"}))
        for word in ("if", "condition")
    ]
    assert first(a, b) is None


def test_an_idempotency_key_is_no_difference() -> None:
    """It holds the execution's id, and stands in the argument that the step names."""
    defined = {"name": "a", "tool": "t.a", "params": {}, "idempotencyArgument": "key"}
    a, b = [run_of(step("a", input={"n": 1, "key": key}, defined=defined)) for key in ("x", "y")]
    assert first(a, b) is None
    assert first(run_of(step("a", input={"key": "x"})), run_of(step("a", input={"key": "y"}))) == (
        "params",
        "a",
        0,
        "/key",
    )


def test_a_run_without_definition_is_compared_all_the_same() -> None:
    """As the original's operations record them."""
    a, b = run_of("a", definition=None, definition_hash=None), run_of(step("a", output=1))
    assert first(a, b) == ("output", "a", 0, "")
    assert compare(a, b).definition_same is None


def test_what_is_listed_is_bounded() -> None:
    """Per step and in all; the rest is counted, and no difference is overlooked."""
    before, after = list(range(300)), [number + 1000 for number in range(300)]
    a = run_of(*[step(f"s{number}", output=before) for number in range(40)])
    b = run_of(*[step(f"s{number}", output=after) for number in range(40)])
    deltas = [delta for one in compare(a, b).steps for delta in one.deltas]
    assert {len(delta.changes) + delta.more for delta in deltas} == {300}
    assert len(deltas[0].changes) == LIMIT
    assert sum(len(delta.changes) for delta in deltas) == LISTED_IN_ALL
    assert compare(a, b).count("changed") == 40


def test_secrets_are_told_apart_and_not_shown() -> None:
    """By the keys on the way to a value, as wherever an output is shown; references may be seen."""
    a = run_of(step("a", output={"auth": {"token": "s3cr3t-1", "key": {"$secret": "ONE"}}}))
    b = run_of(
        step("a", output={"auth": {"token": "s3cr3t-2", "key": {"$secret": "TWO"}}, "password": {"x": ["s3cr3t"]}})
    )
    shown = show_comparison(compare(a, b))
    (delta,) = shown.steps[0].deltas
    assert [(one.path, one.before, one.after) for one in delta.changes] == [
        ("/auth/key/$secret", "ONE", "TWO"),
        ("/auth/token", "[redacted]", "[redacted]"),
        ("/password", None, {"x": ["[redacted]"]}),
    ]
    assert "s3cr3t" not in shown.model_dump_json()


def test_long_values_are_cut_where_they_are_shown() -> None:
    """With their size, and how they begin."""
    shown = show_comparison(compare(run_of(step("a", output="x" * 5_000_000)), run_of(step("a", output=["y" * 3000]))))
    (change,) = shown.steps[0].deltas[0].changes
    assert change.before == {"truncated": True, "size": 5_000_002, "beginning": '"' + "x" * 199}
    assert change.after["size"] == 3004
    assert len(shown.model_dump_json()) < 4000
    assert len(shown.sentence) < 400


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        (run_of("a"), run_of("a"), "No divergence: both executions did the same."),
        (run_of("a"), run_of("a", input={"n": 2}), "First divergence in the input: /n was added, 2."),
        (
            run_of("a"),
            run_of(step("a", status="failed")),
            'First divergence at step a, in how it ended: it was "completed" and is "failed".',
        ),
        (
            run_of(step("a", output=[1, {"b": 2}])),
            run_of(step("a", output=[1, {"b": "2"}])),
            'First divergence at step a, in the output: /1/b was 2 and is "2", of another type.',
        ),
        (
            run_of(step("a", output=[1, 2, 3])),
            run_of(step("a", output=[2, 3, 1])),
            "First divergence at step a, in the output: /0 moved to /2, 1.",
        ),
        (
            run_of("a", "a"),
            run_of("a", step("a", output={"of": None})),
            'First divergence at step a (number 2), in the output: /of was "a" and is null, of another type.',
        ),
        (run_of("a", "b"), run_of("a"), "First divergence: B has no step b."),
        (run_of("a"), run_of("a", "b"), "First divergence: only B has a step b."),
        (
            run_of("a", "b", "c"),
            run_of("b", "c", "a"),
            "First divergence: step a is at another place, /steps/0 in A and /steps/2 in B.",
        ),
        (
            run_of("a"),
            run_of("a", status="cancelled"),
            'First divergence only in how the executions ended: it was "completed" and is "cancelled".',
        ),
    ],
)
def test_the_first_divergence_is_a_sentence(a: Run, b: Run, sentence: str) -> None:
    """That names the place, and both values."""
    assert show_comparison(compare(a, b)).sentence == sentence
