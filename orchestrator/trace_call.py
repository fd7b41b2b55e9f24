"""The span of one call of a tool, and what its request carries. Imported only where something is traced."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from orchestrator import trace_names as names
from orchestrator.advance import Attempt
from orchestrator.outcome import Cancelled, Failed, Succeeded
from persistence.json_value import encode_json

if TYPE_CHECKING:
    from orchestrator.spans import Spans

LONGEST: Final = 8192  # characters of a payload

_trace_context = TraceContextTextMapPropagator()
_baggage = W3CBaggagePropagator()


class Call:
    """A call under way. `meta`: what its request carries; `attempt`: to be set to what came of it."""

    def __init__(self, spans: Spans, span: Span, context: Context, shown: Callable[[Any], Any]):
        self._spans = spans
        self._shown = shown
        self._span = span
        self._context = context
        self.attempt: Attempt | None = None
        self.meta: dict[str, str] = {}
        _trace_context.inject(self.meta, context)
        _baggage.inject(self.meta, context)

    def __enter__(self) -> Self:
        self._token = attach(self._context)
        self._spans.calling(self._span)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self._spans.calling(None)
        detach(self._token)
        if kind is not None:
            mark(self._span, kind.__name__)
        if self.attempt is not None:
            self._tell(self.attempt)
        self._span.end()

    def _tell(self, attempt: Attempt) -> None:
        payloads = self._spans.payloads
        match attempt.outcome:
            case Failed(kind=kind, message=message):
                mark(self._span, kind, message[:LONGEST] if payloads else None)
            case Cancelled():
                mark(self._span, "cancelled")
            case Succeeded(output=output) if payloads:
                self._span.set_attribute(names.TOOL_RESULT, encode_json(self._shown(output))[:LONGEST])
        if payloads and attempt.params is not None:
            self._span.set_attribute(names.TOOL_ARGUMENTS, encode_json(attempt.params)[:LONGEST])
        if attempt.cost is not None and attempt.cost.nanos is not None:
            self._span.set_attribute(names.COST_USD, attempt.cost.nanos / 1e9)


def mark(span: Span, kind: str, message: str | None = None) -> None:
    """It failed, in this way."""
    span.set_attribute(names.ERROR_TYPE, kind)
    span.set_status(Status(StatusCode.ERROR, message))
