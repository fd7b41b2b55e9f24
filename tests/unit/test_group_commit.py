"""Writes of many threads in one call, for which nobody waits."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from persistence import gather
from persistence.group_commit import GroupCommit
from tests.threads import Gate, Running


class Database:
    """Answers a write in capitals. Its first call is held up at the gate, and its second where that has been closed;
    `refused` fails the call that holds it."""

    def __init__(self, refused: str = "none", gone: str = "none", faulty: str = "none") -> None:
        self.gate, self.second = Gate(), Gate()
        self.second.open()
        self.refused, self.gone, self.faulty = refused, gone, faulty
        self.calls: list[list[str]] = []
        self.alone: list[str] = []
        self.done: list[tuple[str, str]] = []
        self.told: list[str] = []
        self.commit = GroupCommit(
            self._together,
            self._alone,
            self._done,
            key=lambda write: write[0],
            linger=lambda: self.told.append("linger"),
            settled=lambda: self.told.append(f"settled, {self.commit.pending} left"),
        )

    def _together(self, writes: Sequence[str]) -> list[str]:
        self.calls.append(list(writes))
        if len(self.calls) <= 2:
            (self.gate, self.second)[len(self.calls) - 1].pass_through()
        if self.refused in writes:
            raise ValueError("all or none")
        return [write.upper() for write in writes]

    def _alone(self, write: str) -> str | None:
        self.alone.append(write)
        if write == self.faulty:
            raise LookupError(write)
        return None if write == self.gone else write.upper()

    def _done(self, answered: Sequence[tuple[str, str]]) -> None:
        self.done += answered
        if any(write == self.faulty for write, _ in answered):
            raise LookupError(self.faulty)

    def hold_up(self, first: str, *others: str) -> None:
        """The first is held up; the others are sent by this thread, which does not wait. Returns when all are settled."""
        leader = Running(self.commit.send, first)
        self.gate.wait_for_someone()
        for write in others:
            self.commit.send(write)
        assert self.commit.pending == 1 + len(others)
        assert self.calls == [[first]]
        self.gate.open()
        leader.result()
        assert self.commit.pending == 0


def both(*writes: str) -> list[tuple[str, str]]:
    return [(write, write.upper()) for write in writes]


def test_a_lone_write_is_carried_out_at_once() -> None:
    """By its own thread, which returns when it is done."""
    database = Database()
    database.gate.open()
    for write in ("a", "b"):
        database.commit.send(write)
        assert database.done[-1] == (write, write.upper())
    assert database.calls == [["a"], ["b"]]


def test_what_is_sent_meanwhile_is_one_call_and_nobody_waits() -> None:
    """In the order in which it was sent, and each is told its own answer."""
    database = Database()
    database.hold_up("a", "b", "c", "d")
    assert database.calls == [["a"], ["b", "c", "d"]]
    assert database.done == both("a", "b", "c", "d")


def test_one_call_at_a_time_is_under_way() -> None:
    """Whatever it carries out: who comes meanwhile does not begin another."""
    database = Database()
    database.second = Gate()
    leader = Running(database.commit.send, "a")
    database.gate.wait_for_someone()
    for write in "bc":
        database.commit.send(write)
    database.gate.open()
    database.second.wait_for_someone()
    database.commit.send("d")
    assert database.calls == [["a"], ["b", "c"]]
    database.second.open()
    leader.result()
    assert database.done == both("a", "b", "c", "d")


def test_writes_of_one_key_are_never_in_one_call() -> None:
    """The second is the next call's, and no other waits for it."""
    database = Database()
    database.hold_up("a", "b1", "c", "b2", "b3", "d")
    assert database.calls == [["a"], ["b1", "c", "d"], ["b2"], ["b3"]]


def test_a_call_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is the next one's."""
    monkeypatch.setattr(gather, "MOST", 2)
    database = Database()
    database.hold_up("a", "b", "c", "d", "e", "f")
    assert database.calls == [["a"], ["b", "c"], ["d", "e"], ["f"]]


def test_a_bad_write_fails_no_other() -> None:
    """After a call that came to nothing each is tried alone; one that cannot be told of is not."""
    database = Database(refused="c", gone="c")
    database.hold_up("a", "b", "c", "d")
    assert database.alone == ["b", "c", "d"]
    assert database.done == both("a", "b", "d")


def test_a_write_that_raises_alone_fails_no_other() -> None:
    """Those after it are tried as well."""
    database = Database(refused="c", faulty="c")
    database.hold_up("a", "b", "c", "d")
    assert database.alone == ["b", "c", "d"]
    assert database.done == both("a", "b", "d")


def test_a_fault_of_who_is_told_does_not_end_the_lead() -> None:
    """What was sent meanwhile is carried out, and so is what is sent later."""
    database = Database(faulty="a")
    database.hold_up("a", "b")
    database.commit.send("c")
    assert database.done == both("a", "b", "c")


def test_an_answer_too_few_is_no_answer() -> None:
    """They could not be told apart."""
    done: list[tuple[str, str]] = []
    commit = GroupCommit[str, str](lambda _: [], lambda _: "alone", done.extend, key=str)
    commit.send("a")
    assert done == [("a", "alone")]


def test_a_commit_may_wait_before_and_is_told_of_after() -> None:
    """Before the first call only: what came meanwhile has waited already."""
    database = Database()
    database.hold_up("a", "b", "c")
    assert database.told == ["linger", "settled, 2 left", "settled, 0 left"]


def test_what_who_is_told_sends_itself_is_carried_out_next() -> None:
    """A thread that leads may leave a write of its own."""
    done: list[str] = []

    def tell(answered: Sequence[tuple[str, str]]) -> None:
        done.extend(write for write, _ in answered)
        if done == ["a"]:
            commit.send("b")

    commit = GroupCommit[str, str](lambda writes: [*writes], lambda write: write, tell, key=str)
    commit.send("a")
    assert (done, commit.pending) == (["a", "b"], 0)


def test_many_threads_lose_nothing() -> None:
    """Each write is carried out once, and told once."""
    database = Database()
    database.gate.open()

    def send(name: str) -> None:
        for number in range(200):
            database.commit.send(f"{name}{number}")

    for thread in [Running(send, name) for name in "abcdefgh"]:
        thread.result()
    assert sorted(database.done) == sorted(both(*(f"{name}{number}" for name in "abcdefgh" for number in range(200))))
    assert database.commit.pending == 0
