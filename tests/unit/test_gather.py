"""Requests of many threads in one call, each answered to its own thread."""

from __future__ import annotations

from collections.abc import Sequence
from queue import SimpleQueue

import pytest

from persistence import gather
from persistence.gather import Answer, Gather, Request
from tests.fleet import wait_until
from tests.threads import LONG, Gate, Running


class Database:
    """Answers a request in capitals. Its first call is held up at the gate, and its second where that has been closed;
    `refused` fails the call that holds it."""

    def __init__(self, refused: str = "none") -> None:
        self.gate, self.second = Gate(), Gate()
        self.second.open()
        self.refused = refused
        self.calls: list[list[str]] = []
        self.alone: list[str] = []
        self.gather = Gather(self._together, self._alone, key=lambda request: request[0])

    def _together(self, requests: Sequence[str]) -> list[str]:
        self.calls.append(list(requests))
        if len(self.calls) <= 2:
            (self.gate, self.second)[len(self.calls) - 1].pass_through()
        if self.refused in requests:
            raise ValueError("all or none")
        return [request.upper() for request in requests]

    def _alone(self, request: str, _: Exception) -> str:
        self.alone.append(request)
        if request == self.refused:
            raise LookupError(request)
        return request.upper()

    def hold_up(self, first: str, *others: str) -> list[Running[str]]:
        """The first is asked and held up; then the others come, in order."""
        threads = [Running(self.gather, first)]
        self.gate.wait_for_someone()
        for count, request in enumerate(others, 1):
            threads.append(Running(self.gather, request))
            wait_until(lambda count=count: len(self.gather._waiting) == count, LONG)  # type: ignore[misc]
        return threads


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "STUCK", 2 * LONG)


def results(threads: list[Running[str]]) -> list[str]:
    return [thread.result() for thread in threads]


def test_a_lone_request_is_carried_out_at_once() -> None:
    """By its own thread, and the next one as well."""
    database = Database()
    database.gate.open()
    assert [database.gather("a"), database.gather("b")] == ["A", "B"]
    assert database.calls == [["a"], ["b"]]


def test_what_comes_meanwhile_is_one_call() -> None:
    """In the order in which it came, and each thread gets its own answer."""
    database = Database()
    threads = database.hold_up("a", "b", "c", "d")
    database.gate.open()
    assert results(threads) == ["A", "B", "C", "D"]
    assert database.calls == [["a"], ["b", "c", "d"]]


def test_requests_of_one_key_are_never_in_one_call() -> None:
    """The second waits for the call after, whoever leads that."""
    database = Database()
    threads = database.hold_up("a", "b1", "c", "b2", "b3")
    database.gate.open()
    assert results(threads) == ["A", "B1", "C", "B2", "B3"]
    assert database.calls == [["a"], ["b1", "c"], ["b2"], ["b3"]]


def test_a_call_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is the next one's."""
    monkeypatch.setattr(gather, "MOST", 2)
    database = Database()
    threads = database.hold_up("a", "b", "c", "d")
    database.gate.open()
    assert results(threads) == ["A", "B", "C", "D"]
    assert database.calls == [["a"], ["b", "c"], ["d"]]


def test_a_bad_request_fails_its_own_thread_only() -> None:
    """After a call that came to nothing each is tried alone."""
    database = Database(refused="c")
    threads = database.hold_up("a", "b", "c", "d")
    database.gate.open()
    with pytest.raises(LookupError):
        threads.pop(2).result()
    assert results(threads) == ["A", "B", "D"]
    assert sorted(database.alone) == ["b", "c", "d"]
    assert database.gather("e") == "E"
    assert database.calls[-1] == ["e"]


def test_an_answer_too_few_is_no_answer() -> None:
    """They could not be told apart."""
    gathering = Gather[str, str](lambda _: [], lambda *_: "alone", key=str)
    assert gathering("a") == "alone"


def test_a_call_that_hangs_does_not_hold_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has waited long enough goes ahead, and takes along who waits as well; the late one is answered all the same."""
    database = Database()
    late = database.hold_up("a")
    monkeypatch.setattr(gather, "STUCK", 0.0)
    assert results([Running(database.gather, request) for request in ("b", "c")]) == ["B", "C"]
    assert sorted(request for call in database.calls[1:] for request in call) == ["b", "c"]
    database.gate.open()
    assert results(late) == ["A"]
    assert (database.alone, database.gather._leaders) == ([], 0)


class Latch:
    """One that is waited for until it is released, or until the test says that the time is over."""

    made: list[Latch]

    def __init__(self) -> None:
        self.waits = 0
        self._news: SimpleQueue[bool] = SimpleQueue()
        Latch.made.append(self)

    def acquire(self, timeout: float) -> bool:
        self.waits += 1
        return self._news.get(timeout=2 * timeout)

    def release(self) -> None:
        self._news.put(True)

    def lose_patience(self) -> None:
        self._news.put(False)


class Entry(gather._Entry[Request, Answer]):
    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.latch = Latch()  # type: ignore[assignment]


def test_who_is_being_taken_care_of_does_not_go_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes: it would be asked for twice."""
    Latch.made = []
    monkeypatch.setattr(gather, "_Entry", Entry)
    database = Database()
    database.second = Gate()
    threads = database.hold_up("a", "b", "c")
    database.gate.open()
    database.second.wait_for_someone()
    late = Latch.made[2]
    late.lose_patience()
    wait_until(lambda: late.waits == 2 or not threads[2].thread.is_alive(), LONG)
    database.second.open()
    assert results(threads) == ["A", "B", "C"]
    assert database.calls == [["a"], ["b", "c"]]


def test_many_threads_lose_and_mix_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they do to each other, the impatient ones among them."""
    monkeypatch.setattr(gather, "STUCK", 0.0005)
    database = Database()
    database.gate.open()

    def ask(name: str) -> bool:
        return all(database.gather(f"{name}{number}") == f"{name}{number}".upper() for number in range(200))

    assert all(thread.result() for thread in [Running(ask, name) for name in "abcdefgh"])
    asked = [request for call in database.calls for request in call]
    assert len(asked) == len(set(asked)) == 8 * 200
    assert (database.alone, database.gather._waiting, database.gather._leaders) == ([], [], 0)
