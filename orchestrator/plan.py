"""What a definition comes to: its steps with everything known before the first one runs.

A plan is made from the definition alone, so every process makes the same one. It is what submission inserts as rows
and what a worker runs by; both find a step by its index.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from pydantic import ValidationError

from orchestrator.conditions import Condition, compile_condition
from orchestrator.definition import RESULT, Config, Retry, Step, Workflow
from orchestrator.explain import explain
from orchestrator.price import nanos_of
from orchestrator.substitute import Template, compile_template
from persistence.errors import InvalidDefinition

CACHED_BYTES = 16 * 1024 * 1024  # of definitions whose plans are kept; a plan takes some ten times its definition
CACHED_PLANS = 512
UNNAMED = "unnamed"  # a workflow without a name, where a name is needed
RETRIED_BY_DEFAULT = frozenset({"tool_error", "rpc_error"})  # what the tool itself said may be transient


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step. `index` counts from 0; `successors` and `variable_steps` are indexes.

    needs: how many predecessors must finish first. variable_steps: the earlier steps whose output its params or condition
    read. context_keys: the other top-level names they read, `input` among them. max_retries: attempts after the first.
    timeout_ms: milliseconds for one attempt. idempotent: None if the definition does not say. retry_on: kinds of definite
    failure that are worth another attempt. pause_when, fail_when: asked of the step's own output, as `result` or by its
    variable. workflow: the definition's name.
    """

    index: int
    name: str
    workflow: str
    tool: str
    server: str
    tool_name: str
    assign: str | None
    params: Template
    condition: Condition | None
    pause_when: Condition | None
    fail_when: Condition | None
    successors: tuple[int, ...]
    needs: int
    variable_steps: tuple[int, ...]
    context_keys: tuple[str, ...]
    max_retries: int
    retry: Retry
    timeout_ms: int | None
    idempotent: bool | None
    title: str | None
    retry_on: frozenset[str]
    on_large_output: Literal["truncate", "fail"]
    idempotency_argument: str | None


class PlannedSteps(Sequence[PlannedStep]):
    """The steps of a plan, each planned when first asked for: a worker needs few of ten thousand."""

    def __init__(self, steps: Sequence[Step], config: Config, workflow: str):
        self._steps = steps
        self._workflow = workflow
        self._config = config
        self._assigned = {step.assign: index for index, step in enumerate(steps) if step.assign is not None}
        self._planned: list[PlannedStep | None] = [None] * len(steps)

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, index: int) -> PlannedStep: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PlannedStep]: ...
    def __getitem__(self, index: int | slice) -> PlannedStep | Sequence[PlannedStep]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        planned = self._planned[index]
        if planned is None:
            planned = self._planned[index] = self._plan_step(index % len(self))
        return planned

    def _plan_step(self, index: int) -> PlannedStep:
        step = self._steps[index]
        assigned = self._assigned
        params = compile_template(step.params)
        condition = _compiled(step.when)
        pause_when, fail_when = _compiled(step.pause_when), _compiled(step.fail_when)
        roots = params.roots if condition is None else params.roots | condition.roots
        for after in (pause_when, fail_when):
            if after is not None:
                roots |= after.roots - {RESULT, step.assign}
        earlier = {root for root in roots if assigned.get(root, index) < index}
        return PlannedStep(
            index=index,
            name=step.name,
            workflow=self._workflow,
            tool=step.tool,
            server=step.server,
            tool_name=step.tool_name,
            assign=step.assign,
            params=params,
            condition=condition,
            pause_when=pause_when,
            fail_when=fail_when,
            successors=() if index == len(self) - 1 else (index + 1,),
            needs=min(index, 1),
            variable_steps=tuple(sorted([assigned[root] for root in earlier])),
            context_keys=tuple(sorted(roots - earlier)),
            max_retries=self._config.max_retries if step.retry is None else step.retry.max_attempts - 1,
            retry=step.retry or Retry(),
            timeout_ms=step.timeout_ms,
            idempotent=step.idempotent,
            title=step.title,
            retry_on=RETRIED_BY_DEFAULT if step.retry_on is None else frozenset(step.retry_on),
            on_large_output=step.on_large_output,
            idempotency_argument=step.idempotency_argument,
        )


def _compiled(text: str | None) -> Condition | None:
    return None if text is None else compile_condition(text)


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, by index. timeout_ms: milliseconds for the whole execution, max_cost_nanos: what it may cost, in
    nano-dollars; None for no limit."""

    steps: Sequence[PlannedStep]
    continue_on_error: bool
    timeout_ms: int | None
    max_cost_nanos: int | None = None


def plan(workflow: Workflow) -> Plan:
    """Plans a validated workflow: each step waits for the one before it."""
    config = workflow.config or Config()
    limit = None if config.max_cost is None else nanos_of(config.max_cost)
    steps = PlannedSteps(workflow.steps, config, workflow.name or UNNAMED)
    return Plan(steps, config.continue_on_error, config.timeout_ms, limit)


def definition_hash(workflow: Workflow) -> str:
    """SHA-256, in hex, of the definition as given: camelCase keys, sorted, without what was left out."""
    canonical = json.dumps(_as_given(workflow), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def stored_definition(workflow: Workflow) -> str:
    """The definition as JSON text, without what was left out; the keys of params keep their order."""
    return json.dumps(_as_given(workflow), ensure_ascii=False, separators=(",", ":"))


def stored_plan(planned: Plan) -> str:
    """JSON text: one object per step, with the columns that submission writes to workflow_steps."""
    return json.dumps([_row(step) for step in planned.steps], ensure_ascii=False, separators=(",", ":"))


def _as_given(workflow: Workflow) -> dict[str, Any]:
    return workflow.model_dump(by_alias=True, exclude_unset=True)


def _row(step: PlannedStep) -> dict[str, Any]:
    return {
        "step_name": step.name,
        "step_index": step.index,
        "tool": step.tool,
        "assign": step.assign,
        "successors": step.successors,
        "needs": step.needs,
        "variable_steps": step.variable_steps,
        "context_keys": step.context_keys,
        "max_retries": step.max_retries,
        "timeout_ms": step.timeout_ms,
        "idempotent": step.idempotent,
    }


class PlanCache:
    """Plans by the hash of their definition; the least recently used leave. Safe for any number of threads."""

    def __init__(self, max_bytes: int = CACHED_BYTES, max_plans: int = CACHED_PLANS):
        self._max_bytes = max_bytes
        self._max_plans = max_plans
        self._bytes = 0
        self._plans: OrderedDict[str, tuple[Plan, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, digest: str, definition: bytes) -> Plan:
        """The plan of `definition`, made while holding the lock: other threads most likely wait for the same one."""
        with self._lock:
            if (kept := self._plans.get(digest)) is not None:
                self._plans.move_to_end(digest)
                return kept[0]
            made = plan(_stored_workflow(definition))
            self._plans[digest] = made, len(definition)
            self._bytes += len(definition)
            while len(self._plans) > 1 and (self._bytes > self._max_bytes or len(self._plans) > self._max_plans):
                _, (_, size) = self._plans.popitem(last=False)
                self._bytes -= size
            return made


_CACHE = PlanCache()


def plan_for(digest: str, definition_json: bytes) -> Plan:
    """The plan of a stored definition, from the cache if its hash is known there.

    Raises InvalidDefinition if the definition was stored by a version whose language this one does not know.
    """
    return _CACHE.get(digest, definition_json)


def _stored_workflow(definition: bytes) -> Workflow:
    try:
        return Workflow.model_validate(json.loads(definition))
    except ValidationError as error:
        raise InvalidDefinition([finding.as_fault() for finding in explain(error)]) from None
