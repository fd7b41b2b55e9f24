"""Things done once for all threads that want them at the same time."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from workers.mcp_client.budget import Budget, CallCancelled, DeadlinePassed
from workers.mcp_client.failures import Trouble, trouble
from workers.mcp_client.flight import Flight


def together(flight: Flight[Any], make: Any, count: int = 6, budget: float = 5) -> list[Any]:
    """What each of `count` threads got, all of them asking while the first is still busy."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(flight.get(make, Budget(budget)))
        except (Trouble, DeadlinePassed) as error:
            found.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return found


def test_made_once_for_all() -> None:
    """Six threads get the very same object."""
    gate, made = threading.Barrier(1), list[object]()

    def make() -> object:
        made.append(object())
        gate.wait(5)
        return made[-1]

    found = together(Flight(), make)
    assert len(made) == 1
    assert all(value is made[0] for value in found)


def test_an_unwanted_value_is_replaced_once() -> None:
    """Threads that hold the lost value get the new one; one that asks late does not replace it again."""
    flight: Flight[object] = Flight()
    first = flight.get(object, Budget(5))
    second = flight.get(object, Budget(5), unwanted=first)
    assert second is not first
    assert flight.get(object, Budget(5), unwanted=first) is second


class Announced(Budget):
    """A budget that says when its owner begins to wait."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        super().__init__(5)
        self.waiting = threading.Event()

    def wait(self, event: threading.Event) -> None:
        self.waiting.set()
        super().wait(event)


def test_a_failure_is_shared_but_not_remembered() -> None:
    """Those who waited get the failure without trying themselves; the next caller tries anew."""
    flight: Flight[str] = Flight()
    entered, go, attempts = threading.Event(), threading.Event(), list[int]()
    found: list[Trouble] = []

    def fail() -> str:
        attempts.append(1)
        entered.set()
        go.wait(5)
        raise trouble("transport", "down", "not_executed")

    def ask(budget: Budget) -> None:
        with pytest.raises(Trouble) as caught:
            flight.get(fail, budget)
        found.append(caught.value)

    budget = Announced()
    leader, follower = threading.Thread(target=ask, args=(Budget(5),)), threading.Thread(target=ask, args=(budget,))
    leader.start()
    assert entered.wait(5)
    follower.start()
    assert budget.waiting.wait(5)
    go.set()
    leader.join(5)
    follower.join(5)
    assert len(found) == 2
    assert len(attempts) == 1
    assert flight.get(lambda: "up", Budget(5)) == "up"


@pytest.mark.parametrize("end", [DeadlinePassed, CallCancelled])
def test_a_leader_that_ran_out_of_time_is_replaced(end: type[Exception]) -> None:
    """The leader's own deadline says nothing about the thing: a waiter takes over."""
    flight: Flight[str] = Flight()
    entered, go = threading.Event(), threading.Event()

    def late() -> str:
        entered.set()
        go.wait(5)
        raise end

    def lead() -> None:
        with pytest.raises(end):
            flight.get(late, Budget(5))

    leader = threading.Thread(target=lead)
    leader.start()
    assert entered.wait(5)
    found: list[str] = []
    follower = threading.Thread(target=lambda: found.append(flight.get(lambda: "made", Budget(5))))
    follower.start()
    go.set()
    leader.join(5)
    follower.join(5)
    assert found == ["made"]


def test_waiting_obeys_the_waiters_own_budget() -> None:
    """A slow leader does not hold the others beyond their deadline."""
    flight: Flight[str] = Flight()
    entered, go = threading.Event(), threading.Event()

    def slow() -> str:
        entered.set()
        go.wait(5)
        return "late"

    leader = threading.Thread(target=flight.get, args=(slow, Budget(5)))
    leader.start()
    assert entered.wait(5)
    with pytest.raises(DeadlinePassed):
        flight.get(lambda: "never", Budget(0.05))
    go.set()
    leader.join(5)
