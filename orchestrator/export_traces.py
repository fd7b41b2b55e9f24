"""A tracer provider as the standard OTEL_* variables describe it. Imported only where something is traced.

A span that ends is put into a bounded queue (OTEL_BSP_*), which one thread sends from: whoever ends a span waits for
nobody, and what does not fit is dropped.
"""

from __future__ import annotations

import os
from importlib.metadata import entry_points, version

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

OTLP = {"": "otlp_proto_http", "http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


def open_provider(role: str) -> TracerProvider:
    """Raises ImportError if an exporter is wanted that is not installed."""
    provider = TracerProvider(resource=_resource(role), shutdown_on_exit=False)
    if isinstance(provider.sampler, TraceIdRatioBased):  # asked of an execution as a whole, not of each span: spans.py
        provider.sampler = ParentBased(provider.sampler)
    for name in (os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp").split(","):
        provider.add_span_processor(BatchSpanProcessor(_exporter(name.strip())))
    return provider


def _resource(role: str) -> Resource:
    given = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = {} if given else {"service.name": f"afu9-{role}"}
    return Resource.create({"service.version": version("afu9"), **named})


def _exporter(name: str) -> SpanExporter:
    if name == "otlp":
        variables = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
        protocol = next((os.environ[one].strip() for one in variables if os.environ.get(one)), "")
        name = OTLP.get(protocol, protocol)
    for entry in entry_points(group="opentelemetry_traces_exporter", name=name):
        exporter: SpanExporter = entry.load()()
        return exporter
    raise ImportError(f"no exporter {name!r} is installed")
