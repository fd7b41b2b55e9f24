"""Controls: what an operator does with an execution. Each is one SQL function (schema.sql), one transaction, one event with
who and why; nothing is erased, and a control that comes too late is refused and changes nothing.

`preview` says what a control would do, by the same judgement.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from jsonschema import Draft202012Validator

from orchestrator.broker import StepBroker
from orchestrator.called_tools import CalledTool, called_tools
from orchestrator.count_ends import OK, count_execution
from orchestrator.definition import Workflow
from orchestrator.fork import Fork, plan_fork, plan_replay
from orchestrator.judge_control import (
    ACTIONS,
    DECISIONS,
    Effect,
    Facts,
    StepFacts,
    allowed_actions,
    find_step,
    judge,
    refuse_unless_allowed,
    refuse_unless_undecided,
)
from orchestrator.metrics import EXECUTIONS_STARTED, STEP_REUSE
from orchestrator.plan import UNNAMED, definition_hash, plan, stored_definition, stored_plan
from orchestrator.push import push_steps
from persistence.errors import InvalidInput, NotFound, Refused
from persistence.executions import missing
from persistence.ids import time_ordered_uuid
from persistence.json_value import encode_json
from persistence.pool import Pool, run
from persistence.transitions import ready_steps, register_definition

UNSET: Any = object()


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator wants of one execution.

    step: a name or an index; where rerun and fork begin, what retry, skip, set-output, decide and replay are about. input:
    params instead of those of the definition (retry, rerun, replay), or the new execution's input (fork). output: of
    set-output, and of a decision `done`. variables: a fork's, instead of what was assigned. workflow: a fork's other
    definition; workflow_id: the registered one's, if it is one. decision: of DECISIONS.
    """

    action: str
    actor: str
    reason: str | None = None
    step: str | None = None
    input: Any = UNSET
    output: Any = UNSET
    variables: Mapping[str, Any] = field(default_factory=dict)
    workflow: Workflow | None = None
    workflow_id: UUID | None = None
    decision: str | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a control would do: the steps whose results stay as they are (`reused`), those whose results are replaced, and the
    calls."""

    execution_id: UUID
    action: str
    status: str
    allowed: tuple[str, ...]
    reused: tuple[str, ...]
    replaced: tuple[str, ...]
    calls: tuple[CalledTool, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """A control that was carried out. `execution_id`: the new execution's of fork and replay, else the execution's own."""

    execution_id: UUID
    action: str
    status: str
    allowed: tuple[str, ...]


class Controller:
    """Controls executions of one database. Without a broker nothing is pushed: the dispatcher finds the steps."""

    def __init__(self, pool: Pool, broker: StepBroker | None):
        self._pool = pool
        self._broker = broker

    def preview(self, execution_id: UUID, wish: Wish) -> Preview:
        """Raises NotFound, InvalidInput, and Refused with what is allowed."""
        facts = self._look(execution_id)
        if wish.action in ("fork", "replay"):
            fork = self._plan_new(facts, wish, self._payload(facts))
            names = [step.name for step in fork.workflow.steps]
            reused = [names[entry["index"]] for entry in fork.reused]
            calls = called_tools(self._pool, fork.workflow.model_dump(by_alias=True, exclude_unset=True), fork.called)
            return Preview(facts.id, wish.action, facts.status, _allowed(facts), tuple(reused), (), calls)
        effect = self._judge(facts, wish)
        replaced = [facts.steps[index].name for index in effect.again if facts.steps[index].status != "pending"]
        reused = [facts.steps[index].name for index in effect.reused]
        calls = called_tools(self._pool, facts.definition, effect.called)
        return Preview(facts.id, wish.action, facts.status, _allowed(facts), tuple(reused), tuple(replaced), calls)

    def carry_out(self, execution_id: UUID, wish: Wish) -> Done:
        """Raises what `preview` raises, and Refused if the execution has moved meanwhile."""
        facts = self._look(execution_id)
        if wish.action in ("fork", "replay"):
            return self._start_new(facts, wish)
        effect = self._judge(facts, wish)
        parameters: dict[str, Any] = {"execution_id": facts.id, "actor": wish.actor, "reason": wish.reason}
        match wish.action:
            case "pause" | "resume" | "cancel":
                return self._done(facts, wish, run(self._pool, f"{wish.action}_execution", parameters)[0])
            case "decide" if wish.decision == "fail":
                detail = encode_json({"step": wish.step, "decision": wish.decision})
                run(self._pool, "note_control", {**parameters, "action": wish.action, "detail": detail})
                return Done(facts.id, wish.action, facts.status, _allowed(facts))
        parameters |= {
            "action": wish.action,
            "steps": list(effect.again),
            "overrides": encode_json({str(index): value for index, value in effect.overrides.items()}),
            "expected": facts.status,
        }
        return self._done(facts, wish, run(self._pool, "rerun_steps", parameters)[0])

    def hold(self, kind: str, name: str, actor: str, reason: str | None) -> bool:
        """Stops new calls of a `tool` (server.tool), of a `server`, or of a `workflow`'s executions; false if it was held."""
        _known_kind(kind)
        return bool(run(self._pool, "hold_calls", {"kind": kind, "name": name, "actor": actor, "reason": reason}))

    def release(self, kind: str, name: str) -> int:
        """Lets the calls go on; how many steps were waiting. Raises NotFound if nothing was held."""
        _known_kind(kind)
        row = run(self._pool, "release_hold", {"kind": kind, "name": name})[0]
        if not row["done"]:
            raise NotFound(f"the {kind} {name} is not held")
        return int(row["made_due"])

    def _look(self, execution_id: UUID) -> Facts:
        rows = run(self._pool, "control_view", {"id": execution_id})
        if not rows:
            raise missing(self._pool, str(execution_id))
        row = rows[0]
        steps = [
            StepFacts(UUID(one.pop("id")), successors=tuple(one.pop("successors")), **one) for one in row.pop("steps")
        ]
        definition = json.loads(row.pop("definition") or "{}")
        return Facts(**row, definition=definition, steps=steps)

    def _judge(self, facts: Facts, wish: Wish) -> Effect:
        if wish.action not in ACTIONS:
            raise InvalidInput(f"unknown action {wish.action!r}; there are {', '.join(ACTIONS)}")
        refuse_unless_allowed(facts, wish.action)
        if wish.step is None and wish.action in ("rerun", "skip", "set-output", "decide"):
            raise InvalidInput(f"{wish.action} needs a step")
        if (wish.decision in DECISIONS) != (wish.action == "decide"):
            raise InvalidInput(f"decide needs a decision ({', '.join(DECISIONS)}), and nothing else takes one")
        if wish.step is not None and wish.action in ("pause", "resume", "cancel"):
            raise InvalidInput(f"{wish.action} is for the whole execution, not for a step")
        step = find_step(facts, wish.step) if wish.step is not None else None
        if wish.action == "decide" and step is not None:
            refuse_unless_undecided(facts, step)
            if wish.decision == "fail":
                return Effect()
        return judge(facts, wish.action, step, self._override(wish, step, facts))

    def _override(self, wish: Wish, step: StepFacts | None, facts: Facts) -> dict[str, Any] | None:
        deed = wish.decision if wish.action == "decide" else wish.action
        if (wish.output is not UNSET) != (deed in ("set-output", "done")):
            raise InvalidInput("an output is what set-output needs, or a decision `done`, and nothing else takes")
        if deed == "skip":
            return {"skip": True}
        if deed in ("set-output", "done"):
            self._refuse_misfit(facts, step, wish.output)
            return {"output": wish.output}
        if wish.input is UNSET:
            return None
        if step is None or not isinstance(wish.input, dict):
            raise InvalidInput("params are for one step, and an object")
        return {"input": wish.input}

    def _refuse_misfit(self, facts: Facts, step: StepFacts | None, output: Any) -> None:
        """An output set by hand must be one that the tool could have given."""
        if step is None:
            return
        server, _, tool = step.tool.partition(".")
        schemas = [
            row["output_schema"] for row in run(self._pool, "list_tools", {"server": server}) if row["tool"] == tool
        ]
        if not schemas or schemas[0] is None:
            return
        for fault in Draft202012Validator(schemas[0]).iter_errors(output):
            place = fault.json_path
            raise Refused(
                f"the output does not fit the outputSchema of {step.tool}: {place}: {fault.message[:300]}",
                facts.status,
                allowed_actions(facts.status),
            )

    def _payload(self, facts: Facts) -> Mapping[str, Any]:
        return run(self._pool, "execution_payload", {"id": facts.id})[0]

    def _plan_new(self, facts: Facts, wish: Wish, payload: Mapping[str, Any]) -> Fork:
        refuse_unless_allowed(facts, wish.action)
        if wish.action == "replay":
            if wish.step is None:
                raise InvalidInput("replay needs a step")
            given = None if wish.input is UNSET else wish.input
            return plan_replay(facts, find_step(facts, wish.step), payload["context"], given)
        fork = plan_fork(facts, wish.step, payload["context"], wish.variables, wish.workflow)
        return fork if wish.input is UNSET else replace(fork, input=wish.input)

    def _start_new(self, facts: Facts, wish: Wish) -> Done:
        payload = self._payload(facts)
        fork = self._plan_new(facts, wish, payload)
        digest = definition_hash(fork.workflow)
        register_definition(self._pool, digest, stored_definition(fork.workflow), stored_plan(plan(fork.workflow)))
        request = {
            "id": str(time_ordered_uuid()),
            "input": payload["input"] if fork.input is None else fork.input,
            "context": fork.context,
            "title": payload["title"],
            "triggered_by": wish.actor,
            "labels": payload["labels"],
        }
        parameters = {
            "source": facts.id,
            "action": wish.action,
            "hash": digest,
            "workflow_id": wish.workflow_id or (facts.workflow_id if digest == facts.definition_hash else None),
            "request": encode_json(request),
            "reused": encode_json(list(fork.reused)),
            "actor": wish.actor,
            "reason": wish.reason,
        }
        row = run(self._pool, "fork_execution", parameters)[0]
        self._ring(row, row["execution_id"], facts.id)
        status = row["execution_status"]
        if row["done"]:
            workflow = fork.workflow.name or UNNAMED
            EXECUTIONS_STARTED.add(1, workflow)
            STEP_REUSE.add(len(fork.reused), workflow)
            _count_end(self._pool, row["execution_id"], workflow, status)
        return Done(row["execution_id"], wish.action, status, tuple(allowed_actions(status)))

    def _done(self, facts: Facts, wish: Wish, row: Mapping[str, Any]) -> Done:
        status = row["execution_status"]
        if status is None:
            raise missing(self._pool, str(facts.id))
        if not row["done"]:
            allowed = allowed_actions(status)
            raise Refused(
                f"execution {facts.id} has moved meanwhile: it is {status} now; nothing was changed", status, allowed
            )
        self._ring(row, facts.id)
        _count_end(self._pool, facts.id, facts.definition.get("name") or UNNAMED, status)
        return Done(facts.id, wish.action, status, tuple(allowed_actions(status)))

    def _ring(self, row: Mapping[str, Any], *changed: UUID) -> None:
        if self._broker is not None:
            ready = ready_steps({"execution_id": changed[0], **row}) if "ready_steps" in row else ()
            push_steps(self._broker, ready, changed=changed, force=True)


def _allowed(facts: Facts) -> tuple[str, ...]:
    return tuple(allowed_actions(facts.status, ours=facts.definition_hash is not None))


def _count_end(pool: Pool, execution_id: UUID, workflow: str, status: str) -> None:
    """A control may be what ends an execution."""
    if status in ("completed", "cancelled"):
        count_execution(pool, execution_id, workflow, status, OK if status == "completed" else "cancelled")


def _known_kind(kind: str) -> None:
    if kind not in ("workflow", "server", "tool"):
        raise InvalidInput(f"a hold is on a workflow, a server or a tool, not on a {kind}")
