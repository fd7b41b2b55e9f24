"""Traces of real processes, as a collector gets them; and a collector that never answers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from uuid import UUID

import httpx

from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.pool import Pool
from persistence.settings import Settings
from tests.acceptance.test_api_command import address
from tests.acceptance.test_commands import afu9
from tests.collector import collecting, silent
from tests.fleet import bare_server, count, environment, mcp_config, running_fleet, wait_at_rest

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STEPS = [{"name": f"s{n}", "tool": "bare.echo", "params": {"n": n}} for n in range(3)]
DEFINITION = {"name": "echoes", "steps": STEPS}


def test_a_collector_gets_one_trace_from_three_processes(pool: Pool, settings: Settings, tmp_path: Path) -> None:
    """What was not sent when a process is told to stop is sent then."""
    with collecting() as collector, bare_server() as url:
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
        variables = environment(settings, mcp_config(tmp_path, bare={"url": url})) | told
        with running_fleet(variables, tmp_path, "orchestrator", "worker") as fleet:
            fleet.start("api", "--port", "0")
            answer = httpx.post(
                f"{address(fleet)}/api/workflow/executions",
                json={"definition": DEFINITION},
                headers={"traceparent": f"00-{TRACE}-{SPAN}-01"},
                timeout=30,
            )
            trace_id = answer.json()["traceId"]
            wait_at_rest(pool, [UUID(trace_id)], 30)
            assert collector.spans == []
            for role in ("api", "worker", "orchestrator"):
                (process,) = fleet.processes(role)
                process.terminate()
                assert process.wait(20) == 0
    by_name = {span.name: span for span in collector.spans}
    request = by_name.pop("POST /api/workflow/executions")
    assert (request.service, request.trace, request.parent) == ("afu9-api", TRACE, SPAN)
    assert {(span.service, name) for name, span in by_name.items()} == {
        ("afu9-api", "send steps"),
        ("afu9-worker", "process steps"),
        ("afu9-worker", "tools/call echo"),
        ("afu9-worker", "workflow echoes"),
    }
    assert {span.trace for span in by_name.values()} == {trace_id}
    assert len(collector.spans) == 7
    known = {span.span for span in by_name.values()} | {span.span for span in collector.spans} | {""}
    assert [span for span in collector.spans if span.trace == trace_id and span.parent not in known] == []


def test_a_collector_that_never_answers_changes_nothing(pool: Pool, settings: Settings, tmp_path: Path) -> None:
    """Every step runs, and the worker stops in time."""
    with silent() as collector, bare_server() as url:
        told = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_MAX_QUEUE_SIZE": "64",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16",
            "AFU9_LOG_FORMAT": "json",
        }
        variables = environment(settings, mcp_config(tmp_path, bare={"url": url})) | told
        with running_fleet(variables, tmp_path, "orchestrator", "worker") as fleet:
            submitted = Submitter(pool, None).submit(validate(DEFINITION), [Request() for _ in range(100)])
            ids = [one.execution_id for one in submitted]
            wait_at_rest(pool, ids, 60)
            (worker,) = fleet.processes("worker")
            stopped = time.monotonic()
            worker.terminate()
            assert worker.wait(20) == 0
            assert time.monotonic() - stopped < 5
            lines = fleet.log()
        assert collector.taken
    assert count(pool, "completed", ids) == 100
    warned = [json.loads(line) for line in lines.splitlines() if '"opentelemetry' in line]
    assert any("Queue full" in line["message"] for line in warned)


def test_a_command_that_starts_or_ends_an_execution_traces_too(pool: Pool, settings: Settings, tmp_path: Path) -> None:
    """`afu9 run` pushes, `afu9 cancel` ends: what they did has arrived when they return."""
    file = tmp_path / "echo.json"
    file.write_text(json.dumps({"name": "echo", "steps": [{"name": "e", "tool": "builtin.echo", "params": {}}]}))
    with collecting() as collector, running_fleet(environment(settings), tmp_path, "orchestrator", "worker"):
        variables = environment(settings) | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        started = afu9(variables, "run", str(file), "--json")
        assert started.returncode == 0, started.stderr
        (held,) = Submitter(pool, None).submit(validate(DEFINITION | {"name": "held"}), [Request()])
        cancelled = afu9(variables, "cancel", str(held.execution_id))
        assert cancelled.returncode == 0, cancelled.stderr
    assert [(span.service, span.name, span.trace) for span in collector.spans] == [
        ("afu9-cli", "send steps", json.loads(started.stdout)["traceId"]),
        ("afu9-cli", "workflow held", held.execution_id.hex),
    ]
