"""What a test of traces sees: the spans of this process, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from orchestrator import trace
from orchestrator.spans import Spans


class Traced:
    """Everything that was emitted so far."""

    def __init__(self, sampler: Sampler | None = None, *, payloads: bool = False):
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.spans = Spans(self.provider, payloads=payloads)

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def only(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


@contextmanager
def traced(sampler: Sampler | None = None, *, payloads: bool = False) -> Iterator[Traced]:
    """This process traces while the block runs."""
    found = Traced(sampler, payloads=payloads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "on", found.spans)
        yield found


def linked(span: ReadableSpan) -> list[int]:
    """The ids of the spans that it is linked with."""
    return [link.context.span_id for link in span.links]
