"""When a process traces, what that costs one that does not, and that a collector holds nobody up."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from uuid import UUID

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased

from orchestrator import trace
from orchestrator.export_traces import open_provider
from persistence.ids import time_ordered_uuid
from tests.collector import collecting, silent
from tests.fleet import ROOT
from tests.traced import traced

PLACE = "OTEL_EXPORTER_OTLP_ENDPOINT"
NOTHING = """
import sys
from orchestrator import trace
from orchestrator.recover import reap
from persistence.settings import Settings
from workers.actor import make_broker
from workers.engine import WorkflowEngine
from workers.mcp_client import McpClient
from workers.process import WorkerProcess

settings = Settings(redis_url="redis://127.0.0.1:9/0")
make_broker(settings, WorkerProcess(settings))
trace.begin("worker")
workflow = {"name": "w", "steps": [{"name": "s", "tool": "builtin.echo", "params": {"n": 1}}]}
result = WorkflowEngine(McpClient({}), False).execute(workflow, {})
trace.end()
theirs = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "orchestrator.spans", "orchestrator.export_traces")
print(result.status, [name for name in sys.modules if name.startswith(theirs)])
"""


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """None of the caller's; whatever is begun is ended."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    yield monkeypatch
    trace.end()


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({PLACE: "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({PLACE: ""}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", PLACE: "http://collector:4318"}, False),
        ({"OTEL_SDK_DISABLED": "TRUE", PLACE: "http://collector:4318"}, False),
        ({"OTEL_SERVICE_NAME": "shop"}, False),
    ],
)
def test_the_standard_variables_say_whether(environ: Mapping[str, str], wanted: bool) -> None:
    """Installing the packages alone sends nothing anywhere."""
    assert trace.wanted(environ) is wanted


def test_who_does_not_trace_does_not_import_it(variables: pytest.MonkeyPatch) -> None:
    """A worker's modules and the orchestrator's, and a workflow that runs. (FastAPI and redis-py import interfaces.)"""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-c", NOTHING]
    environ = kept | {"PYTHONPATH": str(ROOT)}
    told = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert told.stdout.strip() == "completed []", told.stderr


def test_variables_without_the_packages_are_told(
    variables: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The process works on, without traces."""
    variables.setenv(PLACE, "http://127.0.0.1:9")
    variables.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    variables.delitem(sys.modules, "orchestrator.export_traces")
    trace.begin("worker")
    assert trace.on is None
    assert "pip install 'afu9[otel]'" in caplog.text


def test_an_exporter_that_is_not_installed_is_told(
    variables: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By the name that the variable has."""
    variables.setenv("OTEL_TRACES_EXPORTER", "pigeon")
    trace.begin("worker")
    assert trace.on is None
    assert "no exporter 'pigeon' is installed" in caplog.text


def test_a_variable_that_cannot_be_used_is_told(
    variables: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No role fails to start for it."""
    variables.setenv(PLACE, "http://127.0.0.1:9")
    variables.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    trace.begin("worker")
    assert trace.on is None
    assert "nothing is traced: max_queue_size must be" in caplog.text


def test_spans_arrive_under_the_roles_name(variables: pytest.MonkeyPatch) -> None:
    """The last ones before the process ends."""
    with collecting() as collector:
        variables.setenv(PLACE, collector.url)
        trace.begin("worker")
        assert trace.on is not None
        execution_id = time_ordered_uuid()
        trace.on.execution_ended(None, execution_id, "w", "completed", "ok")
        trace.end()
        variables.setenv("OTEL_SERVICE_NAME", "shop")
        trace.begin("worker")
        trace.on.execution_ended(None, execution_id, "w", "completed", "ok")
        trace.end()
    assert trace.on is None
    assert [(span.service, span.name, span.trace) for span in collector.spans] == [
        ("afu9-worker", "workflow w", execution_id.hex),
        ("shop", "workflow w", execution_id.hex),
    ]


def test_a_collector_that_never_answers_holds_nobody_up(variables: pytest.MonkeyPatch) -> None:
    """The queue is bounded, what does not fit is dropped, and the end waits two seconds at most."""
    with silent() as collector:
        variables.setenv(PLACE, collector.url)
        variables.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
        variables.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        trace.begin("worker")
        assert trace.on is not None
        began = time.monotonic()
        for _ in range(5000):
            trace.on.execution_ended(None, time_ordered_uuid(), "w", "completed", "ok")
        emitted = time.monotonic()
        trace.end()
        ended = time.monotonic()
        assert collector.taken
    assert emitted - began < 5
    assert trace.FLUSH_SECONDS - 0.5 < ended - emitted < trace.FLUSH_SECONDS + 1


def test_a_program_with_a_provider_of_its_own_keeps_it(variables: pytest.MonkeyPatch) -> None:
    """It is used, and never shut down by us, whatever the variables say."""
    provider, before = TracerProvider(shutdown_on_exit=False), set(threading.enumerate())
    variables.setattr(api, "get_tracer_provider", lambda: provider)
    variables.setattr(trace, "on", None)
    variables.setenv(PLACE, "http://127.0.0.1:9")
    trace.begin("worker")
    assert trace.on is not None
    assert trace.on.tracer.resource is provider.resource
    assert set(threading.enumerate()) <= before
    trace.end()
    assert trace.on is not None


def test_a_share_is_one_of_executions(variables: pytest.MonkeyPatch) -> None:
    """OTEL_TRACES_SAMPLER=traceidratio would ask about each span, by bits that all ids have in common."""
    variables.setenv("OTEL_TRACES_EXPORTER", "console")
    variables.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    variables.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    provider = open_provider("worker")
    assert isinstance(provider.sampler, ParentBased)
    with traced(provider.sampler) as found:
        sampled = [found.spans.root(time_ordered_uuid()).trace_flags.sampled for _ in range(1000)]
    provider.shutdown()
    assert 150 < sum(sampled) < 350


def test_the_spans_of_an_execution_have_ids_of_its_own() -> None:
    """Every process finds the same, none is invalid, and no two ends share one."""
    execution_id = UUID("019c0000-0000-7000-8000-00000000000a")
    with traced() as found:
        ids = [found.spans.root(execution_id, number) for number in range(50)]
        again = found.spans.root(execution_id)
        odd = found.spans.root(UUID(int=(5 << 64) | 5))
    assert again == ids[0]
    assert len({context.span_id for context in ids}) == 50
    assert all(context.is_valid and context.trace_id == execution_id.int for context in ids)
    assert odd.is_valid
