"""What real processes write with AFU9_LOG_FORMAT=json."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.executions import get_execution_steps
from persistence.pool import Pool
from persistence.settings import Settings
from tests.fleet import bare_server, environment, mcp_config, running_fleet, wait_at_rest


def test_every_line_of_a_role_is_an_object_that_names_its_step(pool: Pool, settings: Settings, tmp_path: Path) -> None:
    """A call whose price nobody knows is told by the worker, in the thread that made it."""
    steps = [{"name": "ask", "tool": "bare.echo", "params": {"n": 1}}]
    workflow = validate({"name": "dear", "steps": steps, "config": {"maxCost": 1}})
    with bare_server() as url:
        variables = environment(settings, mcp_config(tmp_path, bare={"url": url})) | {"AFU9_LOG_FORMAT": "json"}
        with running_fleet(variables, tmp_path, "orchestrator", "worker") as fleet:
            (submitted,) = Submitter(pool, None).submit(workflow, [Request()])
            wait_at_rest(pool, [submitted.execution_id], 60)
            for role in fleet.processes("worker"):
                role.terminate()
                assert role.wait(20) == 0
            lines = [line for line in fleet.log().splitlines() if line and not line.startswith("== ")]
    found = [json.loads(line) for line in lines]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, found))
    (step,) = get_execution_steps(pool, submitted.execution_id)
    told = [line for line in found if line.get("step_id") == str(step["id"])]
    assert {(line["trace_id"], line["execution_id"], line["step"]) for line in told} == {
        (submitted.execution_id.hex, str(submitted.execution_id), "ask")
    }
    assert told[0]["worker"] == next(line["worker"] for line in found if "ready with" in line["message"])
    assert not [line for line in found if "ready with" in line["message"] and "step_id" in line]
