"""What KEDA asks of PostgreSQL where there is no Prometheus: the same figures, with a reader's rights, at a flat cost."""

from __future__ import annotations

import psycopg
import pytest
import yaml

from orchestrator.broker import StepBroker
from orchestrator.measure import Fleet
from orchestrator.submit import Request, Submitter
from persistence.pool import Pool
from persistence.settings import Settings
from tests.deployed import DEPLOY
from tests.integration.test_measure import change
from tests.integration.test_roles import logins  # noqa: F401  # a fixture
from tests.workflows import sequence

FILE = DEPLOY / "kubernetes" / "components" / "keda" / "scaledobject-postgresql.yaml"


@pytest.fixture
def queries() -> dict[str, str]:
    """By the trigger's name."""
    (scaled,) = [one for one in yaml.safe_load_all(FILE.read_text()) if one["kind"] == "ScaledObject"]
    return {trigger["name"]: trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]}


@pytest.fixture
def waiting(pool: Pool) -> None:
    """Seven steps are ready, the oldest for 40 s; two wait for a retry, one is held, ten need others first."""
    submitted = Submitter(pool, None).submit(sequence(2), [Request(input={"n": n}) for n in range(10)])
    moved = ["-40 s", *["-3 s"] * 6, "1 h", "1 h", "-1 h"]
    for one, by in zip(submitted, moved, strict=True):
        change(
            pool,
            """UPDATE workflow_steps SET next_run_at = now() + %(by)s::interval, tool = %(tool)s
                WHERE execution_id = %(id)s AND step_index = 0""",
            by=by,
            tool="other.tool" if by == "-1 h" else "test.tool",
            id=one.execution_id,
        )
    change(pool, "INSERT INTO holds (kind, name, actor) VALUES ('server', 'other', 'test')")


def test_both_ways_of_scaling_see_the_same(
    logins: dict[str, str],  # noqa: F811
    queries: dict[str, str],
    pool: Pool,
    settings: Settings,
    waiting: None,
) -> None:
    """The figures behind the recording rules, and one integer each for afu9_reader."""
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    samples = {
        (sample.name, sample.labels.get("state")): sample.value
        for family in Fleet(pool, broker, settings.lease_seconds).collect()
        for sample in family.samples
    }
    broker.close()
    with psycopg.connect(logins["reader"], autocommit=True) as reader:
        depth, age = (reader.execute(queries[name]).fetchall() for name in ("depth", "age"))
    assert depth == [(7,)]
    assert samples["afu9_queue_depth", "ready"] == 7
    assert 40 <= age[0][0] < 60
    assert age[0][0] == pytest.approx(samples["afu9_queue_oldest_age_seconds", None], abs=2)
