"""One trace per execution: what its spans say, whom they belong to, and with whom they are linked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from orchestrator.broker import StepBroker
from orchestrator.control import Controller, Wish
from orchestrator.definition import Workflow
from orchestrator.outcome import Failed
from orchestrator.price import Price
from orchestrator.push import STEP_QUEUE, push_steps
from orchestrator.recover import reap
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.pool import Pool, run
from persistence.settings import Settings
from persistence.transitions import ReadyStep
from tests.api_server import running_api
from tests.drive import drive, status_of, submit
from tests.fleet import ROOT, mcp_config, wait_at_rest
from tests.integration.mcp_fault_server import fault_server
from tests.traced import Traced, linked, traced
from tests.workflows import FunctionTools, echo, sequence
from workers.engine import WorkflowEngine
from workers.in_flight import InFlight
from workers.mcp_client import McpClient, ServerConfig
from workers.run_step import StepRunner
from workers.serve import Served

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLERS_TRACE, CALLERS_SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
NO = Failed("tool_error", "no", "definite")


@pytest.fixture
def seen() -> Iterator[Traced]:
    with traced() as found:
        yield found


@contextmanager
def traced_server(spans: Path) -> Iterator[str]:
    """A real MCP server with a tracer of its own; yields its URL."""
    command = [sys.executable, "-m", "tests.integration.mcp_traced_server", str(spans)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().decode().strip()
    finally:
        process.kill()
        process.communicate()


@contextmanager
def serving(settings: Settings, config: Path) -> Iterator[None]:
    """A worker in this process."""
    served = Served(settings.model_copy(update={"mcp_config": config, "drain_seconds": 2.0}), watched=False)
    try:
        yield
    finally:
        served.stop()


def ask(**step: Any) -> Workflow:
    """One step that calls test.ask."""
    return validate({"name": "asking", "steps": [{"name": "ask", "tool": "test.ask", "params": {"n": 1}, **step}]})


def answering(answer: Any) -> FunctionTools:
    """Tools whose `ask` always answers so."""
    return FunctionTools(ask=lambda **_: answer)


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


# ------------------------------------------------------------------------------------------------------ the whole way


def test_one_trace_from_the_request_to_the_tool_server(
    pool: Pool, settings: Settings, seen: Traced, tmp_path: Path
) -> None:
    """API, queue, worker and MCP server: one trace whose id is the execution's, linked with the submitter's span."""
    told = tmp_path / "spans"
    steps = [
        {"name": "first", "tool": "sums.add", "params": {"a": 1, "b": 2}, "assign": "sum"},
        {"name": "second", "tool": "sums.add", "params": {"a": 3, "b": 4}},
    ]
    body = {"definition": {"name": "adding", "steps": steps}}
    with traced_server(told) as url, running_api(settings) as api:
        with serving(settings, mcp_config(tmp_path, sums={"url": url})):
            answer = httpx.post(
                f"{api}/api/workflow/executions", json=body, headers={"traceparent": CALLER}, timeout=30
            )
            assert answer.status_code == 202, answer.text
            execution_id = UUID(answer.json()["executionId"])
            wait_at_rest(pool, [execution_id], 30)
        shown = httpx.get(f"{api}/api/workflow/execution/{execution_id}", timeout=30).json()["execution"]
        page = httpx.get(f"{api}/ui/executions/{execution_id}", timeout=30).text
    assert status_of(pool, execution_id) == "completed"
    assert answer.json()["traceId"] == shown["traceId"] == execution_id.hex
    assert f'<code id="trace-id">{execution_id.hex}</code>' in page

    request = seen.only("POST /api/workflow/executions")
    assert (request.context.trace_id, parent(request)) == (CALLERS_TRACE, CALLERS_SPAN)
    ours = [span for span in seen.all() if span is not request]
    assert {span.context.trace_id for span in ours} == {execution_id.int}
    root, send, process = seen.only("workflow adding"), seen.only("send steps"), seen.only("process steps")
    first, second = seen.named("tools/call add")
    assert len(ours) == 5
    assert parent(root) is None
    assert {parent(send), parent(process)} == {root.context.span_id}
    assert (parent(first), parent(second)) == (process.context.span_id, root.context.span_id)
    assert linked(send) == linked(root) == [request.context.span_id]
    assert linked(process) == [send.context.span_id]

    theirs = [json.loads(line) for line in told.read_text().splitlines()]
    calls = [span for span in theirs if span["name"] == "tools/call add"]
    assert [(call["trace"], call["parent"]) for call in calls] == [
        (execution_id.int, first.context.span_id),
        (execution_id.int, second.context.span_id),
    ]


# -------------------------------------------------------------------------------------------------- one test per span


def test_the_span_of_an_execution(pool: Pool, seen: Traced) -> None:
    """Emitted once, at the end, from the execution's start until then."""
    tools = FunctionTools(echo=echo)
    tools.priced["test"] = {"echo": Price(Decimal(2))}
    execution_id = submit(pool, sequence(2))
    assert seen.all() == []
    drive(pool, execution_id, tools)
    root = seen.only("workflow sequence")
    assert attributes(root) == {
        "workflow.name": "sequence",
        "workflow.execution.id": str(execution_id),
        "workflow.execution.status": "completed",
        "workflow.cost.usd": 4.0,
    }
    (row,) = run(pool, "execution_trace", {"id": execution_id})
    assert root.start_time == round(row["created_at"].timestamp() * 1e9)
    calls = seen.named("tools/call echo")
    assert len(calls) == 2
    assert all(root.start_time < call.start_time < call.end_time < root.end_time for call in calls)
    assert (root.kind, root.status.status_code, root.links) == (SpanKind.INTERNAL, StatusCode.UNSET, ())
    assert (root.instrumentation_scope.name, root.resource) == ("afu9", calls[0].resource)


def test_the_span_of_an_execution_that_failed(pool: Pool, seen: Traced) -> None:
    """error.type is the reason that the metrics count."""
    drive(pool, submit(pool, ask()), answering(NO))
    root = seen.only("workflow asking")
    assert (attributes(root)["error.type"], root.status.status_code) == ("tool_error", StatusCode.ERROR)
    assert attributes(root)["workflow.execution.status"] == "failed"


@pytest.mark.parametrize("era", ["modern", "legacy", "bare"])
def test_the_span_of_a_call_over_http(pool: Pool, seen: Traced, era: str) -> None:
    """By the conventions of MCP and GenAI; what a server does not have is left out."""
    workflow = validate({"name": "calling", "steps": [{"name": "ok", "tool": "s.ok", "params": {"secret": "x"}}]})
    execution_id = submit(pool, workflow)
    with fault_server(era) as server, McpClient({"s": ServerConfig("s", url=server.url)}) as client:
        WorkflowEngine(client, pool=pool).go_on(execution_id)
        request = next(entry.message for entry in server.seen if entry.method == "tools/call")
    call = seen.only("tools/call ok")
    told = attributes(call)
    version, session = told.pop("mcp.protocol.version", None), told.pop("mcp.session.id", None)
    assert (version is not None, session is not None) == (era != "bare", era == "legacy")
    assert told == {
        "mcp.method.name": "tools/call",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "ok",
        "jsonrpc.request.id": str(request["id"]),
        "network.transport": "tcp",
        "server.address": "127.0.0.1",
        "server.port": httpx.URL(server.url).port,
        "workflow.name": "calling",
        "workflow.execution.id": str(execution_id),
        "workflow.step.name": "ok",
        "workflow.step.attempt": 1,
    }
    assert (call.kind, call.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
    sent = request["params"]["_meta"]["traceparent"]
    assert sent == f"00-{execution_id.hex}-{call.context.span_id:016x}-01"


def test_the_span_of_a_call_over_a_pipe(pool: Pool, seen: Traced) -> None:
    """A child has no address."""
    workflow = validate({"name": "piped", "steps": [{"name": "s", "tool": "s.add", "params": {"a": 1, "b": 2}}]})
    command = ServerConfig("s", command=sys.executable, args=("-m", "tests.integration.mcp_sdk_server", "stdio"))
    with McpClient({"s": command}) as client:
        WorkflowEngine(client, pool=pool).go_on(submit(pool, workflow))
    told = attributes(seen.only("tools/call add"))
    assert told["network.transport"] == "pipe"
    assert "server.address" not in told


def test_the_span_of_a_call_that_failed(pool: Pool, seen: Traced) -> None:
    """Each attempt has its own; no word of the server's is in it unless payloads are wanted."""
    retry = {"maxAttempts": 2, "initialDelayMs": 100}
    execution_id = submit(pool, ask(retry=retry))
    drive(pool, execution_id, answering(NO))
    calls = seen.named("tools/call ask")
    assert [attributes(call)["workflow.step.attempt"] for call in calls] == [1, 2]
    assert {attributes(call)["error.type"] for call in calls} == {"tool_error"}
    assert {(call.status.status_code, call.status.description) for call in calls} == {(StatusCode.ERROR, None)}


def test_an_error_code_of_the_protocol_is_told(pool: Pool, seen: Traced) -> None:
    """Beside our own word for it."""
    workflow = validate({"name": "calling", "steps": [{"name": "s", "tool": "s.nothing", "params": {}}]})
    with fault_server("modern") as server, McpClient({"s": ServerConfig("s", url=server.url)}) as client:
        WorkflowEngine(client, pool=pool).go_on(submit(pool, workflow))
    told = attributes(seen.only("tools/call nothing"))
    assert (told["error.type"], told["rpc.response.status_code"]) == ("tool_not_found", "-32601")


def test_the_span_of_a_builtin_tool(pool: Pool, seen: Traced) -> None:
    """No protocol is spoken with it, so the span names none."""
    workflow = validate({"name": "plain", "steps": [{"name": "e", "tool": "builtin.echo", "params": {"n": 1}}]})
    with McpClient({}) as client:
        WorkflowEngine(client, pool=pool).go_on(submit(pool, workflow))
    call = seen.only("execute_tool echo")
    assert call.kind is SpanKind.INTERNAL
    assert not [name for name in attributes(call) if name.startswith(("mcp.", "jsonrpc.", "network."))]


def test_payloads_are_told_only_where_they_are_wanted(pool: Pool, seen: Traced) -> None:
    """AFU9_TRACE_PAYLOADS: as they may be shown, and cut."""
    tools = answering({"text": "x" * 10_000})
    tools.shown = lambda value: {"shown": value}  # type: ignore[method-assign]
    drive(pool, submit(pool, ask()), tools)
    assert not {"gen_ai.tool.call.arguments", "gen_ai.tool.call.result"} & attributes(seen.all()[0]).keys()
    with traced(payloads=True) as open_book:
        drive(pool, submit(pool, ask()), tools)
        drive(pool, submit(pool, ask()), answering(NO))
    good, bad = open_book.named("tools/call ask")
    assert json.loads(attributes(good)["gen_ai.tool.call.arguments"]) == {"shown": {"n": 1}}
    assert attributes(good)["gen_ai.tool.call.result"].startswith('{"shown":{"text":"xxx')
    assert len(attributes(good)["gen_ai.tool.call.result"]) == 8192
    assert bad.status.description == "no"


def test_the_spans_of_a_message(pool: Pool, settings: Settings, seen: Traced, tmp_path: Path) -> None:
    """One where it is pushed, one where it is worked off, and a link from the second to the first."""
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    (submitted,) = Submitter(pool, broker).submit(ask(tool="builtin.echo"), [Request()])
    broker.close()
    with serving(settings, mcp_config(tmp_path)):
        wait_at_rest(pool, [submitted.execution_id], 20)
    (step,) = submitted.ready
    common = {
        "messaging.system": "dramatiq",
        "messaging.destination.name": "steps",
        "messaging.message.id": f"{step.step_id}:0",
        "workflow.execution.id": str(submitted.execution_id),
    }
    send, process = seen.only("send steps"), seen.only("process steps")
    for span, kind, operation in ((send, SpanKind.PRODUCER, "send"), (process, SpanKind.CONSUMER, "process")):
        assert span.kind is kind
        assert attributes(span) == common | {
            "messaging.operation.name": operation,
            "messaging.operation.type": operation,
        }
    assert linked(process) == [send.context.span_id]
    assert parent(seen.only("execute_tool echo")) == process.context.span_id
    assert process.start_time < seen.only("execute_tool echo").start_time < process.end_time


def test_a_worker_that_does_not_go_on_pushes_in_the_same_trace(pool: Pool, settings: Settings, seen: Traced) -> None:
    """The next step's message, after the commit; one that is handed on has no span."""
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    (submitted,) = Submitter(pool, None).submit(sequence(2), [Request(input={"n": 1})])
    runner = StepRunner(pool, broker, FunctionTools(echo=echo), uuid4(), InFlight())
    transition = runner.run_step(submitted.ready[0])
    broker.close()
    assert transition is not None
    send = seen.only("send steps")
    assert send.context.trace_id == submitted.execution_id.int
    assert attributes(send)["messaging.message.id"] == f"{transition.ready[0].step_id}:0"


def test_a_push_that_fails_says_so(pool: Pool, seen: Traced) -> None:
    """Redis is away: the dispatcher will push it, and nobody waits for that."""
    broker = StepBroker("redis://127.0.0.1:9/0")
    Submitter(pool, broker).submit(ask(), [Request()])
    broker.close()
    send = seen.only("send steps")
    assert (attributes(send)["error.type"], send.status.status_code) == ("ConnectionError", StatusCode.ERROR)


def test_messages_of_many_executions_have_a_span_each(pool: Pool, settings: Settings, seen: Traced) -> None:
    """Those of unknown executions, which the dispatcher pushes, have none and carry nothing."""
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    submitted = Submitter(pool, broker).submit(ask(), [Request() for _ in range(3)])
    assert {span.context.trace_id for span in seen.named("send steps")} == {one.execution_id.int for one in submitted}
    run(pool, "redispatch_steps", {"limit": 10})
    due = run(pool, "dispatch_steps", {"limit": 10})
    broker.client.flushall()
    assert push_steps(broker, [ReadyStep(row["step_id"], row["attempt"]) for row in due]) == 3
    bodies = broker.client.hgetall(broker.key(STEP_QUEUE, ".msgs")).values()
    broker.close()
    assert ["traceparent" in json.loads(body)["options"] for body in bodies] == [False] * 3
    assert len(seen.named("send steps")) == 3


def test_the_span_of_a_request(settings: Settings, pool: Pool, seen: Traced) -> None:
    """Requests that read have none."""
    with running_api(settings) as api:
        refused = httpx.post(f"{api}/api/workflow/executions", json={}, timeout=30)
        httpx.get(f"{api}/api/workflow/executions", timeout=30)
        httpx.post(f"{api}/nowhere/secret", timeout=30)
    told = [attributes(span) for span in seen.all()]
    names = ("http.request.method", "http.route", "http.response.status_code", "url.path")
    assert [[one.get(name) for name in names] for one in told] == [
        ["POST", "/api/workflow/executions", refused.status_code, "/api/workflow/executions"],
        ["POST", None, 404, "/nowhere/secret"],
    ]
    assert [(span.name, span.kind) for span in seen.all()] == [
        ("POST /api/workflow/executions", SpanKind.SERVER),
        ("POST", SpanKind.SERVER),
    ]


# ------------------------------------------------------------------------------------------------- ends, and what follows


def test_an_execution_that_is_let_go_on_continues_its_trace(pool: Pool, seen: Traced) -> None:
    """Each end has a span; the second begins with the retry, below the first, linked with it, the third with the second."""
    execution_id = submit(pool, ask())
    controller = Controller(pool, None)
    for answer in (NO, NO, {"n": 1}):
        drive(pool, execution_id, answering(answer))
        if answer is NO:
            controller.carry_out(execution_id, Wish("retry", "ada"))
    first, second, third = seen.named("workflow asking")
    assert {span.context.trace_id for span in seen.all()} == {execution_id.int}
    assert len({span.context.span_id for span in seen.all()}) == len(seen.all()) == 6
    assert [parent(span) for span in (first, second, third)] == [None, first.context.span_id, first.context.span_id]
    assert (linked(second), linked(third)) == ([first.context.span_id], [second.context.span_id])
    assert first.end_time < second.start_time < second.end_time < third.start_time
    assert {parent(span) for span in seen.named("tools/call ask")} == {first.context.span_id}


def test_a_pause_is_no_end(pool: Pool, seen: Traced) -> None:
    """One span, from the start to the end."""
    execution_id = submit(pool, ask())
    controller = Controller(pool, None)
    controller.carry_out(execution_id, Wish("pause", "ada"))
    assert drive(pool, execution_id, answering(1)) == "paused"
    assert seen.all() == []
    controller.carry_out(execution_id, Wish("resume", "ada"))
    drive(pool, execution_id, answering(1))
    assert seen.only("workflow asking").links == ()


def test_a_fork_is_a_trace_of_its_own(pool: Pool, seen: Traced) -> None:
    """Linked with the execution that it was made of."""
    source = submit(pool, ask())
    drive(pool, source, answering(1))
    (first,) = seen.named("workflow asking")
    fork = Controller(pool, None).carry_out(source, Wish("fork", "ada")).execution_id
    drive(pool, fork, answering(1))
    root = seen.named("workflow asking")[1]
    assert (root.context.trace_id, parent(root), linked(root)) == (fork.int, None, [first.context.span_id])
    assert root.links[0].context.trace_id == source.int


def test_a_control_that_ends_an_execution_emits_its_span(pool: Pool, seen: Traced) -> None:
    """Without an error: somebody wanted it."""
    execution_id = submit(pool, ask())
    Controller(pool, None).carry_out(execution_id, Wish("cancel", "ada"))
    root = seen.only("workflow asking")
    assert attributes(root)["workflow.execution.status"] == "cancelled"
    assert root.status.status_code is StatusCode.UNSET


def test_the_reaper_emits_the_span_of_what_ran_too_long(pool: Pool, settings: Settings, seen: Traced) -> None:
    """Whoever records the end tells it."""
    execution_id = submit(pool, sequence(1, config={"timeoutMs": 1000}))
    with pool.connection() as connection:
        connection.execute("UPDATE workflow_executions SET deadline_at = now() - interval '1 second'")
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    reap(pool, broker, 30, 3)
    broker.close()
    root = seen.only("workflow sequence")
    assert (root.context.trace_id, attributes(root)["error.type"]) == (execution_id.int, "timeout")


def test_an_end_is_told_although_nothing_can_be_read(pool: Pool, seen: Traced) -> None:
    """Of a row that is gone, say: from the time in the id."""
    execution_id = submit(pool, ask())
    with pool.connection() as connection:
        connection.execute("DELETE FROM workflow_executions")
    seen.spans.execution_ended(pool, execution_id, "asking", "completed", "ok")
    root = seen.only("workflow asking")
    assert root.start_time == (execution_id.int >> 80) * 1_000_000


# ---------------------------------------------------------------------------------------------------------- the caller


@pytest.mark.parametrize("persisted", [True, False])
def test_a_program_that_runs_a_workflow_is_linked(pool: Pool, seen: Traced, persisted: bool) -> None:
    """In its own process, with a database and without; its baggage goes along to the tools, its trace does not."""
    metas = []

    class Tools(FunctionTools):
        def call(self, *arguments: Any, **options: Any) -> Any:
            metas.append(options["meta"])
            return super().call(*arguments, **options)

    engine = WorkflowEngine(Tools(ask=echo), persisted, pool=pool if persisted else None)
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    with seen.provider.get_tracer("theirs").start_as_current_span("their work") as theirs:
        result = engine.execute(ask(), {})
    context.detach(token)
    root, call = seen.only("workflow asking"), seen.only("tools/call ask")
    assert linked(root) == [theirs.get_span_context().span_id]
    assert root.context.trace_id == call.context.trace_id == result.execution_id.int
    assert parent(call) == root.context.span_id
    assert [meta["baggage"] for meta in metas] == ["tenant=acme"]


# ------------------------------------------------------------------------------------------------------------- sampling


def test_a_share_of_executions_is_traced_whole(pool: Pool) -> None:
    """The sampler is asked about an execution, and its answer holds for all spans. A UUID's fixed bits do not mislead it."""
    with traced(ParentBased(TraceIdRatioBased(0.25))) as some:
        ids = [submit(pool, ask()) for _ in range(100)]
        for execution_id in ids:
            drive(pool, execution_id, answering(1))
    roots = {span.context.trace_id for span in some.named("workflow asking")}
    calls = {span.context.trace_id for span in some.named("tools/call ask")}
    assert roots == calls
    assert 5 <= len(roots) <= 50


def test_tools_are_told_what_is_not_sampled(pool: Pool) -> None:
    """The flag says so, and the trace's id is the execution's all the same."""
    execution_id = submit(pool, validate({"steps": [{"name": "ok", "tool": "s.ok", "params": {}}]}))
    with traced(ALWAYS_OFF) as nothing, fault_server("modern") as server:
        with McpClient({"s": ServerConfig("s", url=server.url)}) as client:
            WorkflowEngine(client, pool=pool).go_on(execution_id)
        request = next(entry.message for entry in server.seen if entry.method == "tools/call")
    version, trace_id, _, flags = request["params"]["_meta"]["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", execution_id.hex, "00")
    assert nothing.all() == []
