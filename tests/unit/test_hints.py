"""The thread that tells watchers what changed."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
import redis

from orchestrator import hints
from orchestrator.hints import Teller, read_hint
from tests.fleet import wait_until
from tests.threads import LONG, Gate


class Watchers:
    """Hear hints. The first one is held up at the gate; `faults` are raised instead of the first ones."""

    def __init__(self, *faults: Exception) -> None:
        self.gate = Gate()
        self.heard: list[list[UUID]] = []
        self._faults = list(faults)
        self.teller = Teller(self.publish)

    def publish(self, hint: str) -> None:
        self.heard.append(read_hint(hint.encode()))
        if len(self.heard) == 1:
            self.gate.pass_through()
        if self._faults:
            raise self._faults.pop(0)

    def begin(self, first: UUID) -> None:
        """Returns while the first hint is on its way."""
        self.teller.start()
        self.teller.tell(first)
        self.gate.wait_for_someone()


@pytest.fixture
def watchers() -> Iterator[Watchers]:
    made = Watchers(redis.ConnectionError("away"), LookupError("a fault of ours"))
    yield made
    made.gate.open()
    made.teller.stop()


def test_the_first_change_is_told_at_once_and_the_others_together(
    watchers: Watchers, caplog: pytest.LogCaptureFixture
) -> None:
    """Each execution once, also after hints that came to nothing."""
    first, second, third = (uuid4() for _ in range(3))
    watchers.begin(first)
    for execution in (second, third, None, second):
        watchers.teller.tell(execution)
    assert watchers.heard == [[first]]
    watchers.gate.open()
    wait_until(lambda: len(watchers.heard) == 2, LONG)
    watchers.teller.tell(first)
    wait_until(lambda: len(watchers.heard) == 3, LONG)
    assert watchers.heard == [[first], [second, third], [first]]
    assert watchers.teller.alive()
    assert [record.levelname for record in caplog.records] == ["ERROR"]  # an outage of Redis is none


def test_nothing_is_published_of_nothing(watchers: Watchers) -> None:
    """A change of no execution is none."""
    first = uuid4()
    watchers.teller.tell(None)
    watchers.begin(first)
    assert watchers.heard == [[first]]


@pytest.mark.parametrize("pace", [0.0, 2 * LONG])
def test_everything_is_told_before_it_stops(monkeypatch: pytest.MonkeyPatch, pace: float) -> None:
    """Also what came in the pause after a hint."""
    monkeypatch.setattr(hints, "PACE", pace)
    watchers = Watchers()
    first, second = uuid4(), uuid4()
    watchers.begin(first)
    watchers.gate.open()
    wait_until(lambda: not watchers.teller._filled.is_set(), LONG)
    watchers.teller.tell(second)
    watchers.teller.stop()
    assert not watchers.teller.alive()
    assert watchers.heard == [[first], [second]]
