"""The server of mcp_sdk_server.py with a tracer: `python -m tests.integration.mcp_traced_server FILE`.

The official SDK then emits a span per request, below the context that came in the request's `_meta`. Each becomes a line of
FILE, {name, trace, span, parent}. Prints its URL first.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import set_tracer_provider

from tests.integration.mcp_sdk_server import main


class ToFile(SpanExporter):
    def __init__(self, path: Path):
        self._path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._path.open("a") as file:
            for span in spans:
                parent = span.parent.span_id if span.parent else None
                ids = {"trace": span.context.trace_id, "span": span.context.span_id, "parent": parent}
                file.write(json.dumps({"name": span.name, **ids}) + "\n")
        return SpanExportResult.SUCCESS


if __name__ == "__main__":
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ToFile(Path(sys.argv[1]))))
    set_tracer_provider(provider)
    main("json")
