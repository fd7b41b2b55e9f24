"""The server `builtin` in whole executions, with and without a database, and in the catalogue's rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.builtin_tools import BUILTIN, TOOLS
from persistence.pool import Pool, run
from persistence.settings import Settings
from workers.engine import ExecutionResult, WorkflowEngine
from workers.keep_catalogue import refresh
from workers.mcp_client import McpClient

ROOT = Path(__file__).parents[2]
HELLO = (ROOT / "examples" / "hello.yaml").read_text()
DOCUMENTED = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "builtin.md").read_text(), re.S)


@pytest.fixture(params=["persisted", "in memory"])
def engine(request: pytest.FixtureRequest, settings: Settings, pool: Pool) -> Iterator[WorkflowEngine]:
    """Nothing is configured."""
    persisted = request.param == "persisted"
    small = settings.model_copy(update={"max_output_bytes": 1000})
    with McpClient({}) as client:
        yield WorkflowEngine(client, persistence=persisted, pool=pool if persisted else None, settings=small)


def one(engine: WorkflowEngine, tool: str, params: Any, **step: Any) -> ExecutionResult:
    return engine.execute({"steps": [{"name": "one", "tool": tool, "params": params, **step}]}, {})


def test_the_example_runs_with_nothing_configured(engine: WorkflowEngine) -> None:
    """examples/hello.yaml: wait, shape, say."""
    result = engine.execute(yaml.safe_load(HELLO), {"input": {"name": "Ada"}})
    assert (result.status, result.error) == ("completed", None)
    assert result.output["said"] == {"greeting": "Hello, Ada!", "bugs": ["The total is wrong", "The door sticks"]}
    assert engine.execute(yaml.safe_load(HELLO), {}).output["said"]["greeting"] == "Hello, world!"


def test_what_the_documentation_shows_happens(engine: WorkflowEngine) -> None:
    """docs/builtin.md: a call that is tried twice, and an expression over another step's output."""
    unsteady, shaped = [engine.execute(yaml.safe_load(text), {}) for text in DOCUMENTED]
    assert (unsteady.status, unsteady.steps[0].retry_count) == ("failed", 1)
    assert "the service is busy" in str(unsteady.error)
    assert shaped.steps[2].output == {"text": 'more than 20: ["nut"]'}


@pytest.mark.parametrize(
    ("kind", "step", "retries"),
    [
        ("tool_error", {}, 1),
        ("rate_limited", {}, 1),
        ("transport", {}, 1),
        ("transport", {"idempotent": False}, 0),
        ("invalid_response", {}, 0),
        ("invalid_response", {"retryOn": ["invalid_response"]}, 1),
    ],
)
def test_a_failure_on_purpose_is_retried_like_a_real_one(
    engine: WorkflowEngine, kind: str, step: dict[str, Any], retries: int
) -> None:
    """By its class, and by what the step says."""
    retry = {"maxAttempts": 2, "initialDelayMs": 100}
    result = one(engine, "builtin.fail", {"kind": kind}, retry=retry, **step)
    assert (result.status, result.steps[0].retry_count) == ("failed", retries)
    assert ("not known to be safe" in str(result.error)) == ("idempotent" in step)


def test_a_steps_timeout_ends_a_sleep(engine: WorkflowEngine) -> None:
    """Within the step, however long the sleep."""
    result = one(engine, "builtin.sleep", {"seconds": 60}, timeoutMs=30)
    assert result.status == "failed"
    assert "did not answer within 0.03 s" in str(result.error)
    assert result.steps[0].duration_ms is not None
    assert result.steps[0].duration_ms < 5000


def test_a_large_answer_is_cut_like_any_other(engine: WorkflowEngine) -> None:
    """AFU9_MAX_OUTPUT_BYTES holds."""
    result = one(engine, "builtin.echo", {"text": "x" * 2000}, assign="said")
    assert (result.output["said"]["truncated"], result.output["said"]["size"]) == (True, 2011)
    assert one(engine, "builtin.echo", {"text": "x" * 2000}, onLargeOutput="fail").status == "failed"


def test_its_tools_are_rows_like_those_of_any_server(pool: Pool) -> None:
    """All may be repeated, so a worker's death during a call costs no decision."""
    with McpClient({}) as client:
        assert {change.change for change in refresh(pool, client, BUILTIN)} == {"added"}
        assert refresh(pool, client, BUILTIN) == []
    rows = run(pool, "list_tools", {"server": BUILTIN})
    assert [(row["tool"], row["repeatable"], row["era"]) for row in rows] == [
        (tool, True, "in-process") for tool in TOOLS
    ]
    assert rows[0]["input_schema"] == TOOLS["echo"]["inputSchema"]
    (server,) = run(pool, "list_servers")
    assert (server["name"], server["tools"], server["error"]) == (BUILTIN, 4, None)
