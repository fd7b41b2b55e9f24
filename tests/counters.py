"""What was counted in this process during a test, and what the rows say of the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.metrics import Process
from persistence.pool import Pool

ROWS = """
SELECT concat_ws(' ', 'started', d.name) AS name, count(*)::float AS value
  FROM workflow_executions e JOIN workflow_definitions d ON d.hash = e.definition_hash GROUP BY d.name
UNION ALL
SELECT concat_ws(' ', 'finished', d.name, e.status), count(*)
  FROM workflow_executions e JOIN workflow_definitions d ON d.hash = e.definition_hash
 WHERE e.status IN ('completed', 'failed', 'cancelled') GROUP BY d.name, e.status
UNION ALL
SELECT concat_ws(' ', 'step', d.name, s.step_name, s.status), count(*)
  FROM workflow_steps s JOIN workflow_executions e ON e.id = s.execution_id
  JOIN workflow_definitions d ON d.hash = e.definition_hash
 WHERE s.status IN ('completed', 'failed', 'skipped') AND s.reused_from IS NULL GROUP BY d.name, s.step_name, s.status
UNION ALL
SELECT concat_ws(' ', 'retries', d.name, s.step_name), sum(s.retry_count)
  FROM workflow_steps s JOIN workflow_executions e ON e.id = s.execution_id
  JOIN workflow_definitions d ON d.hash = e.definition_hash GROUP BY d.name, s.step_name HAVING sum(s.retry_count) > 0
UNION ALL
SELECT concat_ws(' ', 'reuse', d.name), count(*)
  FROM workflow_steps s JOIN workflow_executions e ON e.id = s.execution_id
  JOIN workflow_definitions d ON d.hash = e.definition_hash WHERE s.reused_from IS NOT NULL GROUP BY d.name
UNION ALL
SELECT concat_ws(' ', 'cost', c.server, c.tool), sum(c.cost_nanos)::float / 1e9
  FROM cost_days c GROUP BY c.server, c.tool HAVING sum(c.cost_nanos) > 0
"""

COUNTED = {
    "afu9_executions_started_total": ("started", "workflow"),
    "afu9_executions_finished_total": ("finished", "workflow", "status"),
    "afu9_steps_finished_total": ("step", "workflow", "step", "status"),
    "afu9_step_retries_total": ("retries", "workflow", "step"),
    "afu9_step_reuse_total": ("reuse", "workflow"),
    "afu9_cost_usd_total": ("cost", "server", "tool"),
}


def told_by_rows(pool: Pool) -> dict[str, float]:
    """As `told_by_counters` has it."""
    with pool.connection() as connection:
        return {row["name"]: round(row["value"], 9) for row in connection.execute(ROWS)}


def told_by_counters(samples: dict[tuple[str, frozenset[tuple[str, str]]], float]) -> dict[str, float]:
    """Summed over what rows do not tell; `samples` by name and labels."""
    found: Counter[str] = Counter()
    for (name, labels), value in samples.items():
        if name in COUNTED:
            word, *wanted = COUNTED[name]
            found[" ".join([word, *(dict(labels)[label] for label in wanted)])] += value
    return {name: round(value, 9) for name, value in found.items() if value}


def samples() -> Counter[tuple[str, frozenset[tuple[str, str]]]]:
    """All of this process."""
    return Counter(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in Process().collect()
            for sample in family.samples
        }
    )


@contextmanager
def counted() -> Iterator[Counter[tuple[str, frozenset[tuple[str, str]]]]]:
    """What is counted while the block runs; filled in at its end."""
    found: Counter[tuple[str, frozenset[tuple[str, str]]]] = Counter()
    before = samples()
    yield found
    found.update(samples())
    found.subtract(before)


def series(found: Counter[tuple[str, frozenset[tuple[str, str]]]], name: str, *labels: str) -> dict[str, float]:
    """Of one metric, those that moved: the values of these labels, and how much."""
    return {
        " ".join(dict(pairs)[label] for label in labels): value
        for (metric, pairs), value in found.items()
        if metric == name and value
    }
