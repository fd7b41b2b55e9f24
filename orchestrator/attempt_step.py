"""One attempt of a step: condition, params, call. It ends in an outcome, whatever happens, and holds no connection."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from random import getrandbits
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from orchestrator import trace
from orchestrator.advance import Attempt
from orchestrator.builtin_tools import BUILTIN
from orchestrator.count_ends import outcome_reason
from orchestrator.definition import RESULT
from orchestrator.metrics import TOOL_CALL_DURATION
from orchestrator.outcome import Cancelled, Failed, Skipped, Succeeded
from orchestrator.plan import PlannedStep
from orchestrator.price import Prices, cost_of, price_of
from orchestrator.settle import settle
from orchestrator.substitute import EvaluationError, with_references
from persistence.json_value import encode_json
from persistence.transitions import Claim

CALLING: dict[int, str] = {}  # the servers that threads of this process wait for
UNTRACED: AbstractContextManager[None] = nullcontext()
Admit: TypeAlias = Callable[[int], Failed | None]  # nano-dollars that a call is sure to cost -> why it may not be made


class ToolCaller(Protocol):
    """Whoever calls tools: workers/tools.py. `call` never raises for what a server or a network does."""

    max_output_bytes: int
    longest_call_seconds: float  # of calls whose step sets no timeoutMs

    def call(
        self,
        server: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        timeout: float | None = None,
        idempotency_key: str = "",
        meta: Mapping[str, Any] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Succeeded | Failed | Cancelled: ...

    def may_repeat(self, server: str, tool: str, idempotent: bool | None) -> bool:
        """Whether a call that may have run may be made again. `idempotent` is what the step says of it."""
        ...

    def prices(self, server: str) -> Prices:
        """What calls of its tools cost; empty if nobody said."""
        ...

    def shown(self, params: Any) -> Any:
        """The params as they may be stored: without secrets."""
        ...


def attempt_step(
    claim: Claim,
    step: PlannedStep,
    tools: ToolCaller,
    cancelled: threading.Event,
    held_until: float = math.inf,
    admit: Admit | None = None,
) -> Attempt:
    """Runs the attempt, whose result is worth recording until then (on the monotonic clock). What a person wants of it goes
    before what the definition says. The idempotency key is the same for every attempt of the step: a server may use it to
    tell a repetition from a second wish. `admit` is asked before the call where the execution has a limit of cost."""
    key = f"{claim.execution_id}:{step.name}"
    wanted = claim.override or {}
    if "skip" in wanted or "output" in wanted:
        return _ended_by_hand(claim, step, wanted, held_until)
    try:
        if "input" not in wanted and step.condition is not None and not step.condition.holds(claim.scope):
            return Attempt(claim, step, None, Skipped(), held_until=held_until)
        params = with_references(wanted["input"]) if "input" in wanted else step.params.render(claim.scope)
    except EvaluationError as error:
        return Attempt(claim, step, None, Failed("invalid_params", str(error), "definite"), held_until=held_until)
    if step.idempotency_argument is not None:
        params = {**params, step.idempotency_argument: key}
    shown = tools.shown(params)
    prices = tools.prices(step.server)
    if admit is not None and step.server != BUILTIN:
        price = price_of(prices, step.tool_name)
        if (refused := admit(price.known_nanos if price is not None else 0)) is not None:
            return Attempt(claim, step, shown, refused, held_until=held_until)
    with trace.on.call(claim, step, tools.shown) if trace.on is not None else UNTRACED as traced:
        meta = traced.meta if traced is not None else {"traceparent": traceparent(claim.execution_id)}
        outcome, seconds = _call(step, tools, params, key, meta, cancelled)
        cost = cost_of(outcome, step.server, step.tool_name, prices, seconds, limited=admit is not None)
        pause = None
        if isinstance(outcome, Succeeded) and (step.fail_when is not None or step.pause_when is not None):
            outcome, pause = _looked_at(outcome, step, claim.scope)
        settled, text = settle(
            outcome,
            step,
            may_repeat=lambda: tools.may_repeat(step.server, step.tool_name, step.idempotent),
            max_output_bytes=tools.max_output_bytes,
        )
        attempt = Attempt(claim, step, shown, settled, text, held_until, pause, cost)
        if traced is not None:
            traced.attempt = attempt
    return attempt


def _call(
    step: PlannedStep,
    tools: ToolCaller,
    params: Mapping[str, Any],
    key: str,
    meta: Mapping[str, Any],
    cancelled: threading.Event,
) -> tuple[Succeeded | Failed | Cancelled, float]:
    """What the tool answered, after so many seconds."""
    thread = threading.get_ident()
    CALLING[thread] = step.server
    began = time.monotonic()
    try:
        outcome = tools.call(
            step.server,
            step.tool_name,
            params,
            timeout=step.timeout_ms / 1000 if step.timeout_ms else None,
            idempotency_key=key,
            meta=meta,
            cancelled=cancelled,
        )
    finally:
        CALLING.pop(thread, None)
    seconds = time.monotonic() - began
    TOOL_CALL_DURATION.add(seconds, step.server, step.tool_name, outcome_reason(outcome))
    return outcome, seconds


def _ended_by_hand(claim: Claim, step: PlannedStep, wanted: Mapping[str, Any], held_until: float) -> Attempt:
    """Without a call: the step is skipped, or has the output that a person gave it."""
    if "skip" in wanted:
        return Attempt(claim, step, None, Skipped(), held_until=held_until)
    output = wanted["output"]
    return Attempt(claim, step, None, Succeeded(output), encode_json(output), held_until)


def _looked_at(
    succeeded: Succeeded, step: PlannedStep, scope: Mapping[str, Any]
) -> tuple[Succeeded | Failed, str | None]:
    """What failWhen and pauseWhen say of a result: it is a failure, or a reason to pause."""
    seen = {**scope, RESULT: succeeded.output}
    if step.assign is not None:
        seen[step.assign] = succeeded.output
    try:
        if step.fail_when is not None and step.fail_when.holds(seen):
            return Failed("fail_when", f"failWhen holds: {step.fail_when.text}", output=succeeded.output), None
        if step.pause_when is not None and step.pause_when.holds(seen):
            return succeeded, f"pauseWhen holds: {step.pause_when.text}"
    except EvaluationError as error:
        return Failed("fail_when", str(error), output=succeeded.output), None
    return succeeded, None


def traceparent(execution_id: UUID) -> str:
    """The W3C trace context of an attempt that is not traced: its trace is the execution, its span is new."""
    return f"00-{execution_id.hex}-{getrandbits(64) or 1:016x}-01"
