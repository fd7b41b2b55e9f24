"""A collector of traces for tests: takes OTLP over HTTP and keeps the spans, or takes connections and never says a word."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Told(NamedTuple):
    """A span as it arrived. Ids are hexadecimal; `parent` is empty for none."""

    service: str
    name: str
    trace: str
    span: str
    parent: str


class Collector:
    """`url` is for OTEL_EXPORTER_OTLP_ENDPOINT."""

    url: str

    def __init__(self) -> None:
        self.spans: list[Told] = []

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            known = {one.key: one.value.string_value for one in resource.resource.attributes}
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                self.spans.append(Told(known["service.name"], span.name, *ids))


@contextmanager
def collecting() -> Iterator[Collector]:
    """One that answers."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join(5)


class Silent:
    """`taken` holds the connections."""

    url: str

    def __init__(self) -> None:
        self.taken: list[socket.socket] = []


@contextmanager
def silent() -> Iterator[Silent]:
    """One that takes every connection, reads nothing and never answers."""
    found = Silent()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def take() -> None:
            while True:
                try:
                    found.taken.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        try:
            yield found
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in found.taken:
                connection.close()
