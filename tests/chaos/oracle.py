"""What must be true after chaos, found out without the engine's help.

Two witnesses: the audit of every transition (watch.sql), and a twin, the same workflows run before by a fleet that nobody
harmed. Executions of one title must look alike in both, step by step.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.chaos.ground import Arena

# Each answers one row per violation. In the audit a worker's connection is named by its id, any other by its role.
VIOLATIONS: dict[str, str] = {
    "completed twice": """
        SELECT step_id, count(*) FROM chaos_transitions WHERE new_status = 'completed'
         GROUP BY step_id HAVING count(*) > 1""",
    "stale writes": """
        SELECT step_id, old_attempt, new_status, holder, application_name FROM chaos_transitions
         WHERE old_status = 'running' AND application_name IS DISTINCT FROM holder::text
           AND (new_status IN ('completed', 'skipped') OR application_name ~ '^[0-9a-f]{8}-[0-9a-f]{4}-')""",
    "out of a terminal status": """
        SELECT step_id, old_status, new_status, application_name FROM chaos_transitions
         WHERE old_status IN ('completed', 'failed', 'skipped')""",
    "attempts out of order": """
        SELECT step_id, old_status, new_status, old_attempt, new_attempt FROM chaos_transitions
         WHERE new_attempt <> old_attempt + (old_status = 'pending' AND new_status = 'running')::integer""",
    "not terminal": """
        SELECT id, status, title FROM workflow_executions WHERE status NOT IN ('completed', 'failed', 'cancelled')""",
    "steps left running": "SELECT id, step_name, attempt FROM workflow_steps WHERE status = 'running'",
    "attempt <> 1 + retries + releases": """
        SELECT id, step_name, status, attempt, retry_count, released_count FROM workflow_steps
         WHERE attempt <> (status IN ('completed', 'failed', 'skipped'))::integer + retry_count + released_count""",
    "no call was priced": "SELECT 1 AS nothing WHERE NOT EXISTS (SELECT FROM cost_days WHERE cost_nanos > 0)",
    "days cost other than steps": """
        SELECT * FROM (SELECT sum(cost_nanos) AS days, sum(unpriced_calls) AS unpriced FROM cost_days) d,
                      (SELECT sum(cost_nanos) AS steps, sum(unpriced_calls) AS unpriced_steps FROM workflow_steps) s
         WHERE d.days IS DISTINCT FROM s.steps OR coalesce(d.unpriced, 0) <> coalesce(s.unpriced_steps, 0)""",
    "executions cost other than steps": """
        SELECT e.id, e.cost_nanos, s.cost FROM workflow_executions e, LATERAL (
               SELECT sum(w.cost_nanos) AS cost FROM workflow_steps w WHERE w.execution_id = e.id) s
         WHERE e.unpriced_calls IS NOT NULL AND e.cost_nanos IS DISTINCT FROM s.cost""",
}

ROWS = """
SELECT e.title, e.status, e.output, e.context,
       jsonb_agg(jsonb_build_array(s.step_name, s.step_index, s.status, s.input, s.output, s.error_kind)
                 ORDER BY s.step_index) AS steps
  FROM workflow_executions e JOIN workflow_steps s ON s.execution_id = e.id
 GROUP BY e.id
"""


def violations(arena: Arena) -> dict[str, list[dict[str, Any]]]:
    """What is wrong, by name; every name is there, most hold nothing."""
    found: dict[str, list[dict[str, Any]]] = {name: arena.rows(sql) for name, sql in VIOLATIONS.items()}
    found["stuck"] = arena.rows(stuck_executions())
    return found


def stuck_executions() -> str:
    """The engine's own question, so that `afu9 doctor` is right too."""
    from persistence.statements import statement

    return statement("stuck_executions").decode().replace("%(limit)s", "1000")


def outcomes(arena: Arena) -> dict[str, Counter[str]]:
    """By title: how often each outcome occurred, as JSON text."""
    found: dict[str, Counter[str]] = {}
    for row in arena.rows(ROWS):
        told = json.dumps({key: row[key] for key in ("status", "output", "context", "steps")}, sort_keys=True, indent=1)
        found.setdefault(row["title"], Counter())[told] += 1
    return found


def differences(twin: Mapping[str, Counter[str]], chaos: Mapping[str, Counter[str]]) -> list[dict[str, Any]]:
    """Executions that do not look as their twin does."""
    wrong = []
    for title, seen in chaos.items():
        (expected,) = twin[title]
        wrong += [
            {"title": title, "times": times, "lines": _unlike(expected, told)}
            for told, times in seen.items()
            if told != expected
        ]
    return wrong


def _unlike(expected: str, told: str) -> list[str]:
    before, after = expected.splitlines(), told.splitlines()
    return [f"- {line}" for line in before if line not in after] + [f"+ {line}" for line in after if line not in before]
