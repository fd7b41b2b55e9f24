"""`afu9 diff A B`: where two executions first went different ways, and in what they differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from control_center.show_comparison import ShownComparison, ShownDelta, ShownExecution, ShownSide, ShownStep
from control_center.source import Place, place_options
from orchestrator.difference import Change
from orchestrator.explain_change import explain_change, named

MARKS = {"same": "✓", "changed": "≠", "added": "+", "removed": "−"}
PRINTED = 10  # changes of one kind; --json has more


@click.command("diff")
@click.argument("executions", nargs=-1, required=True, metavar="[A] B")
@click.option("--previous-good", is_flag=True, help="Instead of A: the newest completed run of its workflow before B.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, all of it.")
@place_options
def diff_command(
    executions: tuple[str, ...], previous_good: bool, as_json: bool, url: str, api_key_file: Path | None
) -> int:
    """Compare the executions A and B, ids or the beginnings of ones: where they first diverge, then step by step."""
    if len(executions) != (1 if previous_good else 2):
        raise click.UsageError("give two executions, or one and --previous-good")
    with Place(url, api_key_file).open() as source:
        *first, last = [source.find(text) for text in executions]
        comparison = source.compare(first[0] if first else None, last)
    if as_json:
        click.echo(json.dumps(comparison.model_dump(by_alias=True), ensure_ascii=False))
    else:
        for line in render_comparison(comparison):
            click.echo(line)
    return 0


def render_comparison(comparison: ShownComparison) -> Iterator[str]:
    """Lines for a terminal, without colour: the sentence, both executions, a line per step, and the changes."""
    yield comparison.sentence
    yield ""
    for letter, execution in (("A", comparison.a), ("B", comparison.b)):
        yield _execution(letter, execution)
    yield ""
    yield from _table(comparison.steps)
    yield ""
    yield _summary(comparison)
    yield from _changes("the executions", comparison.deltas)
    for step in comparison.steps:
        yield from _changes(named(step.name, step.iteration), step.deltas)


def _execution(letter: str, execution: ShownExecution) -> str:
    name = execution.title or execution.workflow or "execution"
    return f"{letter}  {execution.id}  {name}  {execution.status}  {execution.started_at or ''}".rstrip()


def _table(steps: Sequence[ShownStep]) -> Iterator[str]:
    names = [named(step.name, step.iteration) for step in steps]
    times = [f"{_time(step.a)} → {_time(step.b)}" for step in steps]
    for name, time, step in zip(names, times, steps, strict=True):
        words = ["moved"] * step.moved + [delta.what.replace("_", " ") for delta in step.deltas]
        only = {"added": ["only in B"], "removed": ["only in A"]}.get(step.verdict, words)
        wide = max(map(len, names))
        yield f"  {MARKS[step.verdict]} {name:<{wide}}  {time:>{max(map(len, times))}}  {', '.join(only)}".rstrip()


def _time(side: ShownSide | None) -> str:
    return "–" if side is None or side.duration_ms is None else f"{side.duration_ms} ms"


def _summary(comparison: ShownComparison) -> str:
    found = comparison.summary
    counts = f"{found.same} same, {found.changed} changed, {found.added} added, {found.removed} removed"
    took = "" if found.duration_ms_delta is None else f"; B took {found.duration_ms_delta:+} ms"
    cost = "" if found.cost_delta is None else f", cost {found.cost_delta:+g}"
    return f"{counts}{took}{cost}"


def _changes(name: str, deltas: Sequence[ShownDelta]) -> Iterator[str]:
    if not deltas:
        return
    yield ""
    yield f"{name}:"
    for delta in deltas:
        yield f"  {delta.what.replace('_', ' ')}"
        for change in delta.changes[:PRINTED]:
            yield f"    {explain_change(Change(change.kind, change.path, change.origin, change.before, change.after))}"
        more = len(delta.changes[PRINTED:]) + delta.more
        if more:
            yield f"    … {more} more"
