"""What is run under chaos: six workflows of five steps, in a fixed number of variants.

Every tool is a function of its arguments, so that executions of one variant must come out alike, crash or no crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from orchestrator.definition import Workflow
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.errors import Unreachable
from tests.fleet import wait_until

STEPS = 5
VARIANTS = 20
TIMEOUT_MS = 10_000
QUICK = {"backoff": "fixed", "initialDelayMs": 100}


def step(number: int, tool: str, params: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A step that assigns v<number> and ends soon if its worker forgets it."""
    named = {"name": f"step_{number}", "tool": f"chaos.{tool}", "params": params, "assign": f"v{number}"}
    return {**named, "timeoutMs": TIMEOUT_MS, **more}


def echoes(*numbers: int) -> list[dict[str, Any]]:
    """Steps that hand on the variable before theirs."""
    return [step(n, "echo", {"n": n, "before": f"${{v{n - 1}.arguments.n}}"}) for n in numbers]


FIRST = step(0, "echo", {"n": "${input.n}", "owner": "${repo.owner}"})

DEFINITIONS: dict[str, list[dict[str, Any]]] = {
    "chain": [FIRST, *echoes(1, 2, 3), step(4, "echo", {"text": "n is ${v0.arguments.n}", "last": "${v3}"})],
    "slow": [
        FIRST,
        step(1, "look", {"seconds": "${input.seconds}", "n": 1}),
        *echoes(2),
        step(3, "put", {"seconds": 0.15, "before": "${v2}"}),
        step(4, "echo", {"all": ["${v0}", "${v1}", "${v3}"]}),
    ],
    "flaky": [
        FIRST,
        step(1, "flaky", {"times": 2, "n": 1}, retry={"maxAttempts": 4, **QUICK}),
        *echoes(2),
        step(3, "flaky", {"times": 1, "before": "${v2}", "n": 3}, retry={"maxAttempts": 3, **QUICK}),
        *echoes(4),
    ],
    "failing": [FIRST, *echoes(1, 2), step(3, "broken", {"n": 3}, retry={"maxAttempts": 2, **QUICK}), *echoes(4)],
    "conditional": [
        FIRST,
        step(1, "echo", {"n": 1}, **{"if": "${input.n % 2 == 0}"}),
        step(2, "echo", {"before": "${v1}", "n": 2}),
        step(3, "echo", {"n": 3}, condition="${v1 == null}"),
        step(4, "echo", {"v1": "${v1}", "v3": "${v3}"}),
    ],
    "tolerant": [
        FIRST,
        step(1, "broken", {"n": 1}),
        step(2, "echo", {"before": "${v1}", "n": 2}),
        step(3, "flaky", {"times": 1000, "n": 3}, retry={"maxAttempts": 2, **QUICK}),
        step(4, "echo", {"v2": "${v2}", "v3": "${v3}"}),
    ],
}

WORKFLOWS: dict[str, Workflow] = {
    name: validate(
        {"name": name, "steps": steps, **({"config": {"continueOnError": True}} if name == "tolerant" else {})}
    )
    for name, steps in DEFINITIONS.items()
}


Order = tuple[str, Request]


def orders(count: int) -> list[Order]:
    """`count` requests, the workflows in turn. A title names workflow and variant: equal titles must end alike."""
    names = list(WORKFLOWS)
    made = []
    for index in range(count):
        name, variant = names[index % len(names)], (index // len(names)) % VARIANTS
        given = {"n": variant, "seconds": 1.5 + 0.05 * variant}  # long enough for a zombie to meet its successor
        request = Request(input=given, context={"repo": {"owner": f"owner-{variant}"}}, title=f"{name}-{variant}")
        made.append((name, request))
    return made


def every_variant(count: int) -> list[Order]:
    """One order for each title among the first `count`."""
    return orders(min(count, len(WORKFLOWS) * VARIANTS))


def submit(submitter: Submitter, wanted: Sequence[Order], patience: float = 60.0) -> None:
    """Hands the orders over; while PostgreSQL is away it tries again, with the same ids."""
    for name in WORKFLOWS:
        requests = [request for workflow, request in wanted if workflow == name]
        if requests:
            wait_until(lambda r=requests, n=name: _handed_over(submitter, n, r), patience, "a submission")  # type: ignore[misc]


def _handed_over(submitter: Submitter, name: str, requests: Sequence[Request]) -> bool:
    try:
        submitter.submit(WORKFLOWS[name], requests)
    except Unreachable:
        return False
    return True


def batches(wanted: Sequence[Order], size: int) -> Iterator[list[Order]]:
    iterator = iter(wanted)
    while batch := list(islice(iterator, size)):
        yield batch
