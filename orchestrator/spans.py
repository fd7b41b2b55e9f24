"""Spans of what this process does. Imported only where something is traced; docs/traces.md tells what comes of it.

An execution is one trace, whose id is the execution's: nothing needs to be stored for it, and any process knows it. Its
first span, `workflow {name}`, has an id made of the execution's too: so its children name it as their parent while it is
open nowhere. Whoever records the end emits it, back-dated; if nobody ever does, its children are there all the same.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final
from uuid import UUID

from dramatiq import Message
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace import ReadableSpan, Tracer, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from orchestrator import trace_names as names
from orchestrator.builtin_tools import BUILTIN
from orchestrator.plan import PlannedStep
from orchestrator.trace_call import Call, mark
from persistence.errors import Afu9Error
from persistence.pool import Pool, run
from persistence.transitions import Claim, ReadyStep

HALF: Final = (1 << 64) - 1
REMEMBERED: Final = 10_000  # submitters' spans

_trace_context = TraceContextTextMapPropagator()


class Spans:
    """All of a process. `payloads`: with arguments, results and messages of errors, as far as they may be shown."""

    def __init__(self, provider: TracerProvider, *, payloads: bool = False):
        tracer = provider.get_tracer(names.SCOPE, version("afu9"))
        assert isinstance(tracer, Tracer)  # noqa: S101  # OTEL_SDK_DISABLED was asked before
        self.provider = provider
        self.tracer = tracer
        self.payloads = payloads
        self._scope = InstrumentationScope(names.SCOPE, version("afu9"))
        self._submitters: OrderedDict[UUID, SpanContext] = OrderedDict()
        self._lock = threading.Lock()
        self._here = _Here()

    # ------------------------------------------------------------------------------------------------- executions

    def root(self, execution_id: UUID, number: int = 0) -> SpanContext:
        """The first span of an execution's trace. `number`: that of the end after so many resumptions of an ended one."""
        mixed = (execution_id.int ^ execution_id.int >> 64) + number * 0x9E3779B97F4A7C15
        return SpanContext(execution_id.int, mixed & HALF or 1, is_remote=True, trace_flags=self._flags(execution_id))

    def _flags(self, execution_id: UUID) -> TraceFlags:
        """Whether the sampler wants this execution: one answer for all of its spans, in every process. Samplers that take a
        share look at the last 64 bits, of which a UUID's first two are always the same: they are moved out."""
        moved = execution_id.int << 2 & (1 << 128) - 1
        decision = self.tracer.sampler.should_sample(Context(), moved, "workflow").decision
        wanted = decision is Decision.RECORD_AND_SAMPLE
        return TraceFlags(TraceFlags.SAMPLED if wanted else TraceFlags.DEFAULT)

    def execution_ended(self, pool: Pool | None, execution_id: UUID, workflow: str, status: str, reason: str) -> None:
        """Emits the execution's span, from its start, or from when a person let it go on, until now."""
        first, now = self.root(execution_id), time.time_ns()
        if not first.trace_flags.sampled:
            return
        row = _read(pool, execution_id)
        again = row.get("again", 0)
        began = row.get("again_at") if again else row.get("created_at")
        links = [self.root(execution_id, again - 1)] if again else []
        if not again and row.get("forked_from") is not None:
            links.append(self.root(row["forked_from"]))
        if not again and (submitter := self._submitters.get(execution_id)) is not None:
            links.append(submitter)
        attributes: dict[str, str | float] = {
            names.WORKFLOW_NAME: workflow,
            names.EXECUTION_ID: str(execution_id),
            names.EXECUTION_STATUS: status,
        }
        if row.get("cost_nanos") is not None:
            attributes[names.COST_USD] = row["cost_nanos"] / 1e9
        if status == "failed":
            attributes[names.ERROR_TYPE] = reason
        # Not by the tracer: it would choose the id, and ask the sampler about this span alone.
        self.tracer.span_processor.on_end(
            ReadableSpan(
                names.WORKFLOW.format(workflow),
                context=self.root(execution_id, again),
                parent=first if again else None,
                resource=self.tracer.resource,
                attributes=attributes,
                links=[Link(context) for context in links],
                status=Status(StatusCode.ERROR if status == "failed" else StatusCode.UNSET),
                start_time=min(_nanoseconds(began) or _made_at(execution_id), now),
                end_time=now,
                instrumentation_scope=self._scope,
            )
        )

    def submitting(self, executions: Sequence[UUID]) -> None:
        """Remembers whose span wants them."""
        caller = trace.get_current_span().get_span_context()
        if not caller.is_valid:
            return
        with self._lock:
            self._submitters.update(dict.fromkeys(executions, caller))
            while len(self._submitters) > REMEMBERED:
                self._submitters.popitem(last=False)

    # --------------------------------------------------------------------------------------------------- messages

    @contextmanager
    def sending(self, queue: str, steps: Sequence[ReadyStep], messages: Sequence[Message[Any]]) -> Iterator[None]:
        """Surrounds their push: one span per execution that is known, whose context its messages carry."""
        sent: dict[UUID, list[Message[Any]]] = {}
        for step, message in zip(steps, messages, strict=True):
            if step.execution_id is not None:
                sent.setdefault(step.execution_id, []).append(message)
        spans = [self._start_sending(queue, execution_id, own) for execution_id, own in sent.items()]
        try:
            yield
        except Exception as error:
            for span in spans:
                mark(span, type(error).__name__)
            raise
        finally:
            for span in spans:
                span.end()

    def _start_sending(self, queue: str, execution_id: UUID, messages: Sequence[Message[Any]]) -> trace.Span:
        attributes: dict[str, str | int] = {**_messaging(queue, "send"), names.EXECUTION_ID: str(execution_id)}
        if len(messages) == 1:
            attributes[names.MESSAGE_ID] = messages[0].message_id
        else:
            attributes[names.MESSAGE_COUNT] = len(messages)
        submitter = self._submitters.get(execution_id)
        links = [] if submitter is None else [Link(submitter)]
        around = self._under(execution_id, Context())
        name = names.SEND.format(queue)
        span = self.tracer.start_span(name, around, SpanKind.PRODUCER, attributes, links)
        carried: dict[str, str] = {}
        _trace_context.inject(carried, trace.set_span_in_context(span, Context()))
        for message in messages:
            message.options.update(carried)
        return span

    def received(self, queue: str, message_id: str, options: Mapping[str, Any]) -> None:
        """This thread begins with a message; whose it is, is known once its step is claimed."""
        self._here.received = (time.time_ns(), queue, message_id, options)

    def claimed(self, claim: Claim) -> None:
        """The message that this thread received is that of this attempt."""
        received, self._here.received = self._here.received, None
        if received is None:  # none came through Redis
            return
        began, queue, message_id, options = received
        sender = trace.get_current_span(_trace_context.extract(options, Context())).get_span_context()
        attributes = {
            **_messaging(queue, "process"),
            names.MESSAGE_ID: message_id,
            names.EXECUTION_ID: str(claim.execution_id),
        }
        span = self.tracer.start_span(
            names.PROCESS.format(queue),
            self._under(claim.execution_id, Context()),
            SpanKind.CONSUMER,
            attributes,
            [Link(sender)] if sender.is_valid else [],
            start_time=began,
        )
        self._here.processing = span, attach(trace.set_span_in_context(span))

    def processed(self, fault: BaseException | None) -> None:
        """This thread is done with its message. `fault`: of ours, not of a tool."""
        self._here.received = None
        if self._here.processing is None:
            return
        (span, token), self._here.processing = self._here.processing, None
        detach(token)
        if fault is not None:
            mark(span, type(fault).__name__)
        span.end()

    # ------------------------------------------------------------------------------------------------------ calls

    def call(self, claim: Claim, step: PlannedStep, shown: Callable[[Any], Any]) -> Call:
        """Surrounds the call of a tool. `shown`: a result as it may be shown."""
        attributes: dict[str, str | int] = {
            names.OPERATION: "execute_tool",
            names.TOOL_NAME: step.tool_name,
            names.WORKFLOW_NAME: step.workflow,
            names.EXECUTION_ID: str(claim.execution_id),
            names.STEP_NAME: step.name,
            names.STEP_ATTEMPT: claim.attempt,
        }
        name, kind = names.EXECUTE, SpanKind.INTERNAL
        if step.server != BUILTIN:
            name, kind = names.CALL, SpanKind.CLIENT
            attributes[names.MCP_METHOD] = "tools/call"
        around = self._under(claim.execution_id)
        span = self.tracer.start_span(name.format(step.tool_name), around, kind, attributes)
        return Call(self, span, trace.set_span_in_context(span, around), shown)

    def note(self, attributes: Mapping[str, str | int]) -> None:
        """What the MCP client knows of the call that this thread makes."""
        if self._here.calling is not None:
            self._here.calling.set_attributes(attributes)

    def calling(self, span: trace.Span | None) -> None:
        self._here.calling = span

    def _under(self, execution_id: UUID, context: Context | None = None) -> Context:
        """Where the next span of the execution belongs: below this thread's span if that is the execution's, else below the
        execution's own. None: with the baggage of this thread."""
        present = trace.get_current_span(context)
        if present.get_span_context().trace_id == execution_id.int:
            return trace.set_span_in_context(present, context)
        return trace.set_span_in_context(NonRecordingSpan(self.root(execution_id)), context)


class _Here(threading.local):
    """What a thread is busy with."""

    received: tuple[int, str, str, Mapping[str, Any]] | None = None
    processing: tuple[trace.Span, Any] | None = None
    calling: trace.Span | None = None


def _messaging(queue: str, operation: str) -> dict[str, str]:
    return {
        names.MESSAGING_SYSTEM: "dramatiq",
        names.MESSAGING_DESTINATION: queue,
        names.MESSAGING_OPERATION: operation,
        names.MESSAGING_TYPE: operation,
    }


def _read(pool: Pool | None, execution_id: UUID) -> Mapping[str, Any]:
    """Of its row; nothing where there is none, or the database does not answer now."""
    if pool is None:
        return {}
    try:
        rows = run(pool, "execution_trace", {"id": execution_id})
    except Afu9Error:
        return {}
    return rows[0] if rows else {}


def _nanoseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1e9)


def _made_at(execution_id: UUID) -> int:
    """A time-ordered id begins with the time. One of another kind tells nothing."""
    return (execution_id.int >> 80) * 1_000_000 if execution_id.version == 7 else time.time_ns()
