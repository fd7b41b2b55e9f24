"""After an outage nobody could renew a lease: the reaper judges silence only once it could hear for a whole lease."""

from __future__ import annotations

import pytest

from orchestrator.broker import StepBroker
from orchestrator.recover import Recovery
from persistence.errors import Unreachable
from persistence.executions import get_execution_steps
from persistence.pool import Pool
from persistence.settings import Settings
from tests.integration.test_transitions import WORKER, silence, start, take


def test_silence_counts_only_after_a_whole_lease_of_listening(
    pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the reaper's start, and again after it has lost the database itself."""
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    recovery = Recovery(pool, broker, settings)
    execution_id, ready = start(pool)
    take(pool, ready)
    silence(pool, WORKER)

    def status() -> str:
        return str(get_execution_steps(pool, execution_id)[0]["status"])

    recovery._reap(pool, broker, settings)
    assert status() == "running"
    recovery._listening_since = 0.0
    with monkeypatch.context() as patched:
        patched.setattr("orchestrator.recover.run", _away)
        with pytest.raises(Unreachable):
            recovery._reap(pool, broker, settings)
    recovery._reap(pool, broker, settings)
    assert status() == "running"
    recovery._listening_since = 0.0  # long ago
    recovery._reap(pool, broker, settings)
    assert status() == "pending"
    broker.close()


def _away(*arguments: object) -> None:
    raise Unreachable("away")
