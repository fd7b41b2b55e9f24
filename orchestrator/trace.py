"""The switch for traces: `on` is None until a process begins to trace, and stays None where nobody asks for traces.

Whoever has something to tell asks `if trace.on is not None`, and that is all that it costs without traces: OpenTelemetry is
imported by `begin` and `adopt` alone. It is one per process, as the metrics are.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from orchestrator.spans import Spans

log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 2.0  # that a process waits at its end for a collector to take the last spans

on: Spans | None = None
_ours: TracerProvider | None = None


def begin(role: str, *, payloads: bool = False) -> None:
    """Traces from now on, if the process has a tracer provider already, or if OTEL_* variables say where traces go. `role`:
    for the service's name, unless they say that too; `payloads`: with arguments and results."""
    global on, _ours
    adopt(payloads=payloads)
    if on is not None or not wanted(os.environ):
        return
    try:
        from orchestrator.export_traces import open_provider
        from orchestrator.spans import Spans

        _ours = open_provider(role)
    except ImportError as error:
        log.warning("OTEL_* variables ask for traces, but %s: pip install 'afu9[otel]'", error)
        return
    except Exception as error:  # of a variable that cannot be used; the work does not depend on it
        log.warning("OTEL_* variables ask for traces, but nothing is traced: %s", error)
        return
    on = Spans(_ours, payloads=payloads)


def adopt(*, payloads: bool = False) -> None:
    """Traces with the provider of the program that we run in, if it has one."""
    global on
    sdk, api = sys.modules.get("opentelemetry.sdk.trace"), sys.modules.get("opentelemetry.trace")
    if on is not None or sdk is None or api is None:
        return
    if isinstance(provider := api.get_tracer_provider(), sdk.TracerProvider):
        from orchestrator.spans import Spans

        on = Spans(provider, payloads=payloads)


def end() -> None:
    """Sends what was not sent yet, FLUSH_SECONDS at most: a collector that does not answer holds nobody up."""
    global on, _ours
    if _ours is None:
        return
    provider, _ours, on = _ours, None, None
    sender = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
    sender.start()
    sender.join(FLUSH_SECONDS)


@contextmanager
def during(role: str, *, payloads: bool = False) -> Iterator[None]:
    """Traces while the block runs: for a command that ends soon."""
    begin(role, payloads=payloads)
    try:
        yield
    finally:
        end()


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether the standard variables name a place for traces. Without any the SDK would send them to this machine."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if exporter := environ.get("OTEL_TRACES_EXPORTER", "").strip():
        return exporter != "none"
    places = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return any(environ.get(name) for name in places)
