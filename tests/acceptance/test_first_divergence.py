"""Pairs of executions with one seeded difference each, really run on PostgreSQL: the first divergence is the seeded one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from control_center.show_comparison import show_comparison
from orchestrator.compare import Comparison
from orchestrator.compare_stored import compare_stored
from orchestrator.outcome import Failed
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.executions import update_execution_status
from persistence.pool import Pool, run
from persistence.settings import Settings
from persistence.transitions import ReadyStep
from tests.integration.test_transitions import WORKER, finish, reap, renew, silence, take
from tests.workflows import FunctionTools, echo
from workers.engine import WorkflowEngine
from workers.mcp_client import McpClient

FLOW: dict[str, Any] = {
    "name": "flow",
    "steps": [
        {"name": "fetch", "tool": "test.fetch", "params": {"number": "${input.number}"}, "assign": "issue"},
        {
            "name": "shape",
            "tool": "test.echo",
            "params": {"title": "${issue.title}", "owner": "${repo.owner}", "known": "${known}"},
            "assign": "shaped",
        },
        {
            "name": "notify",
            "tool": "test.echo",
            "params": {"to": "ops"},
            "if": "${issue.count} > 1",
            "assign": "note",
        },
        {
            "name": "close",
            "tool": "test.close",
            "params": {"title": "${shaped.title}"},
            "assign": "closed",
            "retry": {"maxAttempts": 3, "backoff": "fixed", "initialDelayMs": 100},
        },
    ],
}
ISSUE: dict[str, Any] = {
    "title": "é is wrong",
    "count": 3,
    "number": 2**53,
    "milestone": None,
    "locked": True,
    "labels": ["bug", "ui", "p1"],
    "assignees": [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bo"}],
}
SCHEMA: dict[str, Any] = {
    "input_schema": {"type": "object", "properties": {"title": {"type": "string"}}},
    "output_schema": {"type": "object"},
    "annotations": {"readOnlyHint": False},
}


def nested(value: Any, depth: int = 40) -> Any:
    for level in range(depth):
        value = {f"k{level}": value}
    return value


def many(count: int) -> list[dict[str, Any]]:
    """Some megabytes."""
    return [{"id": number, "text": "x" * 40} for number in range(count)]


@dataclass
class World:
    """What one execution is run with."""

    flow: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(FLOW))
    context: dict[str, Any] = field(
        default_factory=lambda: {"input": {"number": 7}, "repo": {"owner": "acme"}, "variables": {"known": 1}}
    )
    issue: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(ISSUE))
    schema: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(SCHEMA))
    closing: list[Any] = field(
        default_factory=lambda: [{"done": True}]
    )  # what the tool `close` answers, the last for ever

    def step(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(one for one in self.flow["steps"] if one["name"] == name)
        return found

    def tools(self) -> FunctionTools:
        def close(**_: Any) -> Any:
            return self.closing.pop(0) if len(self.closing) > 1 else self.closing[0]

        def fetch(**_: Any) -> Any:
            return self.issue if "broken" not in self.issue else Failed("tool_error", self.issue["broken"], "definite")

        tools = FunctionTools(fetch=fetch, echo=echo, close=close, shut=close)
        tools.max_output_bytes = 20_000_000
        return tools


def run_in(world: World, pool: Pool, settings: Settings) -> UUID:
    """The catalogue is told first what the tools say of themselves."""
    run(pool, "claim_refresh", {"server": "test", "repeat_unannotated": True, "ttl": 0})
    tools = [{"tool": name, "repeatable": True, "hash": "same"} for name in ("fetch", "echo", "shut")]
    closing = world.schema | {"tool": "close", "repeatable": True, "hash": json.dumps(world.schema)}
    run(pool, "store_tools", {"server": "test", "era": "x", "tools": json.dumps([*tools, closing])})
    engine = WorkflowEngine(world.tools(), pool=pool, settings=settings)
    return engine.execute(copy.deepcopy(world.flow), copy.deepcopy(world.context)).execution_id


def no() -> Failed:
    return Failed("tool_error", "the service is closed", "definite")


Seed = Callable[[World], Any]
Expected = tuple[str, str | None, str]  # what, step, path


def insert(step: dict[str, Any], at: int) -> Seed:
    return lambda world: world.flow["steps"].insert(at, step)


def issue(**change: Any) -> Seed:
    return lambda world: world.issue.update(change)


def step(name: str, /, **change: Any) -> Seed:
    return lambda world: world.step(name).update(change)


def schema(**change: Any) -> Seed:
    return lambda world: world.schema.update(change)


def closing(*answers: Any) -> Seed:
    return lambda world: setattr(world, "closing", list(answers))


def swap(world: World) -> None:
    steps = world.flow["steps"]
    steps[2], steps[3] = steps[3], steps[2]


AUDIT = {"name": "audit", "tool": "test.echo", "params": {"what": "all"}}
PAIRS: dict[str, tuple[Seed, Expected]] = {
    "another input": (lambda w: w.context["input"].update(number=8), ("input", None, "/number")),
    "an input more": (lambda w: w.context["input"].update(more=None), ("input", None, "/more")),
    "another context": (lambda w: w.context["repo"].update(owner="other"), ("context", None, "/repo/owner")),
    "another variable": (lambda w: w.context["variables"].update(known=2), ("context", None, "/variables/known")),
    "another config": (
        lambda w: w.flow.update(config={"maxRetries": 2}),
        ("definition", None, "/config/maxRetries"),
    ),
    "another param": (step("notify", params={"to": "dev"}), ("definition", "notify", "/params/to")),
    "another tool": (step("close", tool="test.shut"), ("definition", "close", "/tool")),
    "a condition that does not hold": (step("notify", **{"if": "${issue.count} > 9"}), ("definition", "notify", "/if")),
    "other retries": (
        lambda w: w.step("close")["retry"].update(maxAttempts=4),
        ("definition", "close", "/retry/maxAttempts"),
    ),
    "another timeout": (step("shape", timeoutMs=5000), ("definition", "shape", "/timeoutMs")),
    "another variable's name": (step("notify", assign="told"), ("definition", "notify", "/assign")),
    "a step more": (insert(AUDIT, 2), ("extra", "audit", "/steps/2")),
    "a step more at the end": (insert(AUDIT, 4), ("extra", "audit", "/steps/4")),
    "a step less": (lambda w: w.flow["steps"].pop(2), ("missing", "notify", "/steps/2")),
    "another order": (swap, ("order", "notify", "/steps/3")),
    "a step renamed": (step("notify", name="inform"), ("missing", "notify", "/steps/2")),
    "another input schema": (
        schema(input_schema={"type": "object", "properties": {"title": {"type": "integer"}}}),
        ("tool_schema", "close", "/inputSchema/properties/title/type"),
    ),
    "another output schema": (schema(output_schema={"type": "array"}), ("tool_schema", "close", "/outputSchema/type")),
    "other annotations": (
        schema(annotations={"readOnlyHint": True}),
        ("tool_schema", "close", "/annotations/readOnlyHint"),
    ),
    "a tool that fails": (issue(broken="no such issue"), ("status", "fetch", "")),
    "a tool that fails for good": (closing(no()), ("status", "close", "")),
    "a tool that fails once": (closing(no(), {"done": True}), ("retries", "close", "/failed")),
    "an item more": (issue(labels=["bug", "ui", "p1", "new"]), ("output", "fetch", "/labels/3")),
    "an item less": (issue(labels=["ui", "p1"]), ("output", "fetch", "/labels/0")),
    "items in another order": (issue(labels=["ui", "p1", "bug"]), ("output", "fetch", "/labels/2")),
    "an object in a list": (
        issue(assignees=[{"id": 3, "name": "Cy"}, {"id": 1, "name": "Ann"}, {"id": 2, "name": "Bo"}]),
        ("output", "fetch", "/assignees/0"),
    ),
    "another type": (issue(number=str(2**53)), ("output", "fetch", "/number")),
    "true and 1": (issue(locked=1), ("output", "fetch", "/locked")),
    "2^53 + 1": (issue(number=2**53 + 1), ("output", "fetch", "/number")),
    "missing, not null": (lambda w: w.issue.pop("milestone"), ("output", "fetch", "/milestone")),
    "another spelling of the same text": (issue(title="e\u0301 is wrong"), ("output", "fetch", "/title")),
    "a condition's data": (issue(count=0), ("output", "fetch", "/count")),
    "a later output only": (closing({"done": False}), ("output", "close", "/done")),
    "an output that is null": (closing(None), ("output", "close", "")),
    "deep inside": (issue(deep=nested(2)), ("output", "fetch", "/deep" + "".join(f"/k{n}" for n in range(39, -1, -1)))),
    "in megabytes": (
        lambda w: w.issue["many"].__setitem__(79_999, {"id": 79_999, "text": "y"}),
        ("output", "fetch", "/many/79999/text"),
    ),
}
BOTH: dict[str, Seed] = {
    "deep inside": issue(deep=nested(1)),
    "in megabytes": lambda w: w.issue.update(many=many(80_000)),
}


def compared(pool: Pool, a: UUID, b: UUID) -> tuple[Expected | None, Comparison]:
    """Nothing diverges from itself, and the other way round it begins at the same step, unless one is missing."""
    comparison = compare_stored(pool, a, b)
    assert compare_stored(pool, a, a).first_divergence is None
    found, back = comparison.first_divergence, compare_stored(pool, b, a).first_divergence
    assert (found is None) == (back is None)
    assert len(show_comparison(comparison).model_dump_json()) < 100_000
    if found is None or back is None:
        return None, comparison
    if found.what not in ("missing", "extra", "order"):
        assert (found.what, found.step) == (back.what, back.step)
    return (found.what, found.step, found.change.path), comparison


@pytest.mark.parametrize("name", PAIRS)
def test_the_first_divergence_is_the_seeded_one(name: str, pool: Pool, settings: Settings) -> None:
    """By what it is, step and path, whatever follows from it."""
    seed, expected = PAIRS[name]
    worlds = World(), World()
    for world in worlds:
        BOTH.get(name, lambda _: None)(world)
    seed(worlds[1])
    a, b = [run_in(world, pool, settings) for world in worlds]
    assert compared(pool, a, b)[0] == expected


def test_two_runs_of_the_same_do_not_diverge(pool: Pool, settings: Settings) -> None:
    """Not by ids, times, an idempotency key among the params, or the words for people."""
    worlds = World(), World()
    for number, world in enumerate(worlds):
        world.step("shape")["idempotencyArgument"] = "key"
        world.step("close")["title"] = f"Close it {number}"
        world.flow["description"] = f"Words {number}"
        world.step("shape")["assign"] = "unread"
        world.step("close")["params"] = {"title": "${issue.title}"}
        world.step("shape")["tool"] = "test.close"
    a, b = [run_in(world, pool, settings) for world in worlds]
    found, comparison = compared(pool, a, b)
    assert found is None
    assert comparison.definition_same is False
    assert {step.verdict for step in comparison.steps} == {"same"}


@pytest.mark.parametrize(
    ("other", "path"),
    [
        (Failed("tool_error", "another", "definite"), "/message"),
        (Failed("http_error", no().message, "definite"), "/kind"),
    ],
    ids=["message", "kind"],
)
def test_another_error(other: Failed, path: str, pool: Pool, settings: Settings) -> None:
    """Both failed at the same step."""
    worlds = World(closing=[no()]), World(closing=[other])
    for world in worlds:
        del world.step("close")["retry"]
    a, b = [run_in(world, pool, settings) for world in worlds]
    assert compared(pool, a, b)[0] == ("error", "close", path)


def by_hand(pool: Pool, *, lose: bool = False, steps: int = 4) -> UUID:
    """As a worker does it, up to a step; or one that falls silent over its first step, whose work another takes up."""
    renew(pool, WORKER)
    request = Request(input={"number": 7}, context=World().context)
    submitted = Submitter(pool, None).submit(validate(copy.deepcopy(FLOW)), [request])[0]
    ready = submitted.ready
    for number in range(steps):
        claim = take(pool, ready[0])
        if lose and number == 0:
            silence(pool, WORKER)
            reap(pool)
            renew(pool, WORKER)
            row = run(pool, "get_execution_steps", {"execution_id": submitted.execution_id})[0]
            claim = take(pool, ReadyStep(row["id"], row["attempt"]))
        ready = finish(pool, claim).ready
    return submitted.execution_id


def test_a_lost_worker(pool: Pool) -> None:
    """It is counted apart from the tool's failures."""
    assert compared(pool, by_hand(pool), by_hand(pool, lose=True))[0] == ("retries", "fetch", "/lost")


def test_a_cancelled_execution(pool: Pool) -> None:
    """It diverges at the first step that was not reached."""
    a, b = by_hand(pool), by_hand(pool, steps=2)
    update_execution_status(pool, b, "cancelled")
    assert compared(pool, a, b)[0] == ("status", "notify", "")


def test_the_builtin_tools(pool: Pool, settings: Settings) -> None:
    """A real client and no server: a transform of another input, which fails on the way."""
    flow = {
        "steps": [
            {
                "name": "half",
                "tool": "builtin.transform",
                "params": {"expression": "100 / n", "with": {"n": "${known}"}},
                "assign": "half",
            },
            {"name": "say", "tool": "builtin.echo", "params": {"half": "${half.result}"}},
        ]
    }
    with McpClient({}) as client:
        engine = WorkflowEngine(client, pool=pool, settings=settings)
        a, b, c = [engine.execute(flow, {"variables": {"known": known}}).execution_id for known in (50, 50, 0)]
    assert compared(pool, a, b)[0] is None
    found, comparison = compared(pool, a, c)
    assert found == ("context", None, "/variables/known")
    assert [[delta.what for delta in step.deltas] for step in comparison.steps] == [
        ["params", "status", "error"],
        ["status"],
    ]
