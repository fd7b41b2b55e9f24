"""Whom the broker asks about what happens to a message: as the stock one, only not those with nothing to say."""

from __future__ import annotations

from typing import Any

import dramatiq
import fakeredis
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Middleware, SkipMessage

from orchestrator.broker import StepBroker

told: list[tuple[str, str]] = []


class Named(Middleware):
    """Keeps what it was asked."""

    def __init__(self, name: str):
        self.name = name


class Both(Named):
    """Handles a signal's both sides."""

    def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
        told.append((self.name, "before"))

    def after_process_message(self, broker: dramatiq.Broker, message: Any, **outcome: Any) -> None:
        told.append((self.name, f"after {outcome}"))


class After(Named):
    """Handles one side only."""

    def after_process_message(self, broker: dramatiq.Broker, message: Any, **outcome: Any) -> None:
        told.append((self.name, f"after {outcome}"))


class Faulty(Both):
    """Raises on each side, once it has been asked."""

    def __init__(self, name: str, fault: Exception):
        super().__init__(name)
        self.fault = fault

    def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
        super().before_process_message(broker, message)
        raise self.fault

    def after_process_message(self, broker: dramatiq.Broker, message: Any, **outcome: Any) -> None:
        super().after_process_message(broker, message, **outcome)
        raise self.fault


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    told.clear()


def step_broker(*middleware: Middleware) -> StepBroker:
    return StepBroker("", client=fakeredis.FakeRedis(), middleware=middleware)


def emit(broker: dramatiq.Broker) -> list[tuple[str, str]]:
    told.clear()
    broker.emit_before("process_message", "message")
    broker.emit_after("process_message", "message", result=1)
    return [*told]


def test_the_order_is_dramatiqs() -> None:
    """The first is asked first before and last after, with all that came with the signal."""
    middleware: list[Middleware] = [Both("a"), Named("nothing to say"), After("b"), Both("c")]
    asked = emit(step_broker(*middleware))
    assert asked == emit(StubBroker(middleware=middleware))
    assert [name for name, _ in asked] == ["a", "c", "c", "b", "a"]


def test_only_those_that_handle_a_signal_are_asked() -> None:
    """A middleware without the method costs nothing."""
    broker = step_broker(silent := Named("x"), Both("a"))
    emit(broker)
    assert silent not in [getattr(handler, "__self__", None) for handler in broker._handling("before_process_message")]
    assert len(broker._handling("before_process_message")) == 1


def test_a_refusal_reaches_the_caller() -> None:
    """SkipMessage and its like: those after it are not asked."""
    broker = step_broker(Both("a"), Faulty("b", SkipMessage("no")), Both("c"))
    with pytest.raises(SkipMessage):
        broker.emit_before("process_message", "message")
    assert told == [("a", "before"), ("b", "before")]


def test_a_fault_of_one_is_not_the_others() -> None:
    """It is in the log, and all are asked; afterwards a refusal is no more than that."""
    broker = step_broker(Both("a"), Faulty("b", LookupError("fault")), Both("c"))
    assert [name for name, _ in emit(broker)] == ["a", "b", "c", "c", "b", "a"]
    broker = step_broker(Both("a"), Faulty("b", SkipMessage("late")), Both("c"))
    broker.emit_after("process_message", "message")
    assert [name for name, _ in told[-3:]] == ["c", "b", "a"]


def test_a_middleware_that_comes_later_is_asked_too() -> None:
    """In its place, whatever was asked before: a worker adds its own when it starts."""
    broker = step_broker(first := Both("a"), Both("c"))
    emit(broker)
    broker.add_middleware(Both("b"), after=Both)
    assert broker.middleware[0] is first
    names = [middleware.name for middleware in broker.middleware if isinstance(middleware, Named)]
    assert [name for name, _ in emit(broker)] == [*names, *reversed(names)]
    assert sorted(names) == ["a", "b", "c"]
