"""Planning: what rows are made from and what workers run by, the same wherever it is made."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import pytest

from orchestrator.definition import Workflow
from orchestrator.plan import PlanCache, definition_hash, plan, plan_for, stored_definition, stored_plan
from orchestrator.validate import validate
from persistence.errors import InvalidDefinition


def step(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "tool": "srv.tool", "params": {}, **changes}


def workflow(*steps: dict[str, Any], **rest: Any) -> Workflow:
    return validate({"steps": list(steps), **rest})


def long_workflow(count: int) -> Workflow:
    """Steps that read three earlier values, with a condition each."""
    return workflow(
        *(
            step(
                f"s{n}",
                params={"a": "${input.x}", "b": f"${{v{max(n - 1, 0)}.out}}" if n else 1, "c": f"${{input.n + {n}}}"},
                assign=f"v{n}",
                **({"if": f"${{v{n - 1}.k === 'k{n}'}}"} if n else {}),
            )
            for n in range(count)
        )
    )


def test_steps_run_one_after_the_other() -> None:
    """Each waits for the one before it; the first waits for nothing, and nothing waits for the last."""
    steps = plan(workflow(step("a"), step("b"), step("c"))).steps
    assert [(made.index, made.successors, made.needs) for made in steps] == [(0, (1,), 0), (1, (2,), 1), (2, (), 1)]
    (only,) = plan(workflow(step("a"))).steps
    assert (only.successors, only.needs) == ((), 0)


def test_a_tool_splits_at_its_first_dot() -> None:
    """Tool names may hold dots, server names may not."""
    (made,) = plan(workflow(step("a", tool="files-2.dir.read/all"))).steps
    assert (made.tool, made.server, made.tool_name) == ("files-2.dir.read/all", "files-2", "dir.read/all")


def test_a_step_is_handed_only_what_it_reads() -> None:
    """Names of earlier steps become their indexes, all others are keys of the context."""
    made = plan(
        workflow(
            step("a", assign="x"),
            step("b", assign="y", params={"own": "${z.q}"}),
            step("c", params={"p": ["${y.a} ${repo.b}", "${input.c + x}"]}, **{"if": "${x && flag}"}),
            step("d"),
        )
    ).steps
    assert [s.variable_steps for s in made] == [(), (), (0, 1), ()]
    assert [s.context_keys for s in made] == [(), ("z",), ("flag", "input", "repo"), ()]


def test_a_name_is_the_contexts_until_a_step_assigns_it() -> None:
    """A key of the context that a later step overwrites is read from where it is at the time."""
    read = {"p": "${x}"}
    document = {"steps": [step("a", params=read), step("b", assign="x"), step("c", params=read)]}
    first, _, last = plan(validate(document, context_keys=["x"])).steps
    assert (first.variable_steps, first.context_keys) == ((), ("x",))
    assert (last.variable_steps, last.context_keys) == ((1,), ())


def test_retries_come_from_the_step_or_else_from_the_config() -> None:
    """maxAttempts counts the first attempt, maxRetries does not, and a step's own block wins."""
    steps = (step("a"), step("b", retry={}), step("c", retry={"maxAttempts": 1, "backoff": "fixed"}))
    planned = plan(workflow(*steps, config={"maxRetries": 7})).steps
    assert [made.max_retries for made in planned] == [7, 2, 0]
    assert [made.retry.backoff for made in planned] == ["exponential", "exponential", "fixed"]
    assert [made.max_retries for made in plan(workflow(*steps)).steps] == [0, 2, 0]


def test_conditions_and_settings_of_a_step_are_planned() -> None:
    """`if` and `condition` are the same, and what is left out is None."""
    a, b, c = plan(
        workflow(
            step("a", **{"if": "${input.x}"}),
            step("b", condition="${input.x}", timeoutMs=5, title="B", idempotent=True),
            step("c"),
            config={"continueOnError": True, "timeoutMs": 9000},
        )
    ).steps
    assert a.condition is b.condition
    assert c.condition is None
    assert (b.timeout_ms, b.title, b.idempotent) == (5, "B", True)
    assert (c.timeout_ms, c.title, c.idempotent) == (None, None, None)


def test_the_config_is_planned() -> None:
    """What the config leaves out is false and unlimited."""
    made = plan(workflow(step("a"), config={"continueOnError": True, "timeoutMs": 9000}))
    assert (made.continue_on_error, made.timeout_ms) == (True, 9000)
    made = plan(workflow(step("a")))
    assert (made.continue_on_error, made.timeout_ms) == (False, None)


def test_steps_are_found_by_index_from_either_end() -> None:
    """A plan's steps behave like a tuple, and each is planned once."""
    steps = plan(workflow(step("a"), step("b"), step("c"))).steps
    assert steps[-1] is steps[2]
    assert [made.name for made in steps[1:]] == ["b", "c"]
    assert (len(steps), steps[-1].index, steps[-1].successors) == (3, 2, ())
    with pytest.raises(IndexError):
        _ = steps[3]


def test_the_hash_tells_definitions_apart_and_nothing_else() -> None:
    """The order of keys and a default that is not written make no difference; every written value does."""
    base = definition_hash(workflow(step("a", params={"x": 1, "y": 2})))
    assert len(base) == 64
    reordered = {"steps": [{"params": {"y": 2, "x": 1}, "tool": "srv.tool", "name": "a"}]}
    assert definition_hash(validate(reordered)) == base
    assert definition_hash(workflow(step("a", params={"x": 1, "y": 3}))) != base
    assert definition_hash(workflow(step("a", params={"x": 1, "y": 2}), config={})) != base
    assert definition_hash(workflow(step("a", params={"x": "1", "y": 2}))) != base


def test_the_hash_stays_the_same_from_release_to_release() -> None:
    """Stored definitions are found by it, so this value may never change."""
    made = workflow(step("a", params={"é": [1, 2.5, None]}, **{"if": "${input.x}"}), name="w")
    canonical = '{"name":"w","steps":[{"if":"${input.x}","name":"a","params":{"é":[1,2.5,null]},"tool":"srv.tool"}]}'
    assert json.loads(stored_definition(made)) == json.loads(canonical)
    assert definition_hash(made) == "7a2c11b599ccb76c2cf2484b55b7c361019a7e14c24c7212db6a17f82924da96"


def test_a_stored_definition_plans_the_same() -> None:
    """What a worker reads from the database is what was submitted, whatever the keys of params are called."""
    made = workflow(
        step("a", params={"if_": 1, "z": 2, "a": 2**80}, retry={"maxAttempts": 3.0}, assign="x"),
        step("b", params={"p": "${x.y}"}, condition="${x}"),
    )
    text = stored_definition(made)
    assert list(json.loads(text)["steps"][0]["params"]) == ["if_", "z", "a"]
    again = plan_for(definition_hash(made), text.encode())
    assert stored_plan(again) == stored_plan(plan(made))
    assert definition_hash(validate(json.loads(text))) == definition_hash(made)
    assert again.steps[1].params.render({"x": {"y": 5}}) == {"p": 5}


def test_a_stored_plan_has_one_row_per_step() -> None:
    """The names are the columns that submission fills."""
    rows = json.loads(stored_plan(plan(workflow(step("a", assign="x"), step("b", params={"p": "${x} ${input.y}"})))))
    assert rows[1] == {
        "step_name": "b",
        "step_index": 1,
        "tool": "srv.tool",
        "assign": None,
        "successors": [],
        "needs": 1,
        "variable_steps": [0],
        "context_keys": ["input"],
        "max_retries": 0,
        "timeout_ms": None,
        "idempotent": None,
    }


def test_a_definition_of_an_unknown_language_is_refused() -> None:
    """A worker that meets a newer definition says which key it does not know."""
    with pytest.raises(InvalidDefinition) as caught:
        plan_for("f" * 64, json.dumps({"steps": [step("a", foreach="x")]}).encode())
    assert caught.value.faults[0].pointer == "/steps/0/foreach"


def definition(name: str) -> bytes:
    return stored_definition(workflow(step(name))).encode()


def test_the_cache_answers_by_hash_and_drops_what_was_used_least() -> None:
    """The definition is read once; the least recently used plan leaves first."""
    cache = PlanCache(max_plans=2)
    a = cache.get("a", definition("a"))
    assert cache.get("a", b"not read") is a
    cache.get("b", definition("b"))
    assert cache.get("a", b"not read") is a
    cache.get("c", definition("c"))
    assert cache.get("a", b"not read") is a
    with pytest.raises(ValueError, match="Expecting value"):
        cache.get("b", b"read again")


def test_the_cache_is_bounded_by_size_too() -> None:
    """Two definitions that do not fit together are not kept together, and one that never fits is still planned."""
    size = len(definition("a"))
    cache = PlanCache(max_bytes=size + 1)
    a = cache.get("a", definition("a"))
    cache.get("b", definition("b"))
    assert cache.get("a", definition("a")) is not a
    assert PlanCache(max_bytes=0).get("a", definition("a")).steps[0].name == "a"


def test_the_cache_gives_all_threads_the_same_plan() -> None:
    """Threads that ask at the same time wait for one plan instead of making many."""
    cache = PlanCache()
    text = stored_definition(long_workflow(300)).encode()
    plans: list[Any] = []
    barrier = threading.Barrier(8)
    interval = sys.getswitchinterval()

    def ask() -> None:
        barrier.wait()
        plans.append(cache.get("x", text))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len({id(made) for made in plans}) == 1
    assert len(plans) == 8


def seconds_to_plan(count: int, prefix: str) -> float:
    """`prefix` makes the texts new, so that none is in a cache."""
    steps = [
        step(
            f"s{n}",
            params={"a": "${input.x}", "b": f"${{{prefix}{n}.out}}", "c": f"${{{prefix} + {n}}}"},
            assign=f"{prefix}{n + 1}",
            **{"if": f"${{{prefix}{n}.k === 'k{n}'}}"},
        )
        for n in range(count)
    ]
    made = Workflow.model_validate({"steps": steps})
    started = time.process_time()
    assert len(list(plan(made).steps)) == count
    return time.process_time() - started


def test_planning_ten_thousand_steps_is_quick_and_linear() -> None:
    """Below 1.5 seconds of processor time where it was measured; here with room for slower machines."""
    seconds_to_plan(100, "w")
    small, large = seconds_to_plan(2000, "x"), seconds_to_plan(10_000, "y")
    assert large < 6
    assert large < 20 * small


def test_a_worker_does_not_plan_what_it_does_not_run() -> None:
    """The first step of ten thousand is there long before the last one is planned."""
    text = stored_definition(long_workflow(10_000)).encode()
    started = time.process_time()
    PlanCache().get("x", text).steps[9_999].params.render({"input": {"x": 1, "n": 1}, "v9998": {"out": 1}})
    assert time.process_time() - started < 2
