"""The queue between a worker's consumers and its threads: what leaves first, and who is woken for it."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, suppress
from queue import Empty
from typing import Any
from uuid import UUID

import pytest

from orchestrator.push import step_of
from persistence.transitions import ReadyStep
from tests.fleet import wait_until
from tests.threads import LONG, Gate, Running
from workers import work_queue
from workers.work_queue import LONGEST, MOST, WorkQueue


def step(number: int) -> ReadyStep:
    return ReadyStep(UUID(int=number), 0)


def taken(queue: WorkQueue) -> Any:
    """What a thread is given now: a message as it was put, a handed step by its number; None for nothing."""
    try:
        return told(queue.get(timeout=0))
    except Empty:
        return None


def told(item: Any) -> Any:
    if isinstance(item, str):
        return item
    handed = step_of(item.message)
    assert handed is not None
    return handed.step_id.int


def sleeping(queue: WorkQueue, count: int = 1) -> list[Running[Any]]:
    """Threads that sleep until there is something, one after the other."""
    threads = []
    for number in range(len(queue._asleep) + 1, len(queue._asleep) + count + 1):
        threads.append(Running(queue.get, True, 2 * LONG))
        wait_until(lambda number=number: len(queue._asleep) == number, LONG)  # type: ignore[misc]
    return threads


# --------------------------------------------------------------------------------------------------------------- order


def test_handed_steps_come_first_and_each_kind_in_its_order() -> None:
    """What this process has claimed waits for nobody else."""
    queue = WorkQueue(4)
    queue.put("a")
    queue.deliver(step(1))
    queue.put("b")
    queue.deliver(step(2))
    assert [taken(queue) for _ in range(5)] == [1, 2, "a", "b", None]


def test_a_handed_steps_message_is_not_known_to_redis() -> None:
    """Nothing is to be settled there."""
    queue = WorkQueue(1)
    queue.deliver(step(1))
    assert "redis_message_id" not in queue.get().message.options


def test_a_full_process_begins_nothing_but_goes_on() -> None:
    """Handed steps and those that are being recorded count against its threads."""
    queue = WorkQueue(2)
    pending = [0]
    queue.pending = lambda: pending[0]
    queue.put("a")
    queue.deliver(step(1))
    pending[0] = 2
    assert [taken(queue), taken(queue)] == [1, None]
    assert not queue.empty()
    pending[0] = 1
    assert taken(queue) == "a"


def test_dramatiq_empties_it_whole() -> None:
    """At a shutdown, however full the process is; then it says that it is empty."""
    queue = WorkQueue(1)
    queue.pending = lambda: 9
    queue.put("a")
    queue.deliver(step(1))
    queue.put("b")
    assert [told(queue.get_nowait()) for _ in range(3)] == [1, "a", "b"]
    with pytest.raises(Empty):
        queue.get_nowait()
    assert queue.empty()


def test_a_sequence_is_followed_for_as_long_as_nobody_waits() -> None:
    """Then for so many steps, or so long a time."""
    queue, now = WorkQueue(1), time.monotonic() + 3600
    assert queue.has_room_for(10 * MOST, now - 9000)
    queue.deliver(step(1))
    assert queue.has_room_for(10 * MOST, now - 9000)
    queue.put("a")
    assert queue.has_room_for(MOST - 1, now)
    assert not queue.has_room_for(MOST, now)
    assert not queue.has_room_for(1, time.monotonic() - LONGEST)


# --------------------------------------------------------------------------------------------------------- who is woken


@pytest.mark.parametrize("kind", ["message", "handed"])
def test_a_sleeper_is_woken(kind: str) -> None:
    """By whoever brings something."""
    queue = WorkQueue(1)
    (sleeper,) = sleeping(queue)
    if kind == "message":
        queue.put("a")
    else:
        queue.deliver(step(1))
    assert told(sleeper.result()) == ("a" if kind == "message" else 1)


def test_a_sleeper_wakes_when_its_time_is_over() -> None:
    """As Dramatiq's threads must, to see that they are to stop."""
    queue = WorkQueue(1)
    with pytest.raises(Empty):
        queue.get(timeout=0.001)
    assert (queue._asleep, queue._free) == ([], 1)  # it is awake, and nobody wakes it again


def test_the_last_to_sleep_is_woken_first() -> None:
    """It is the warmest; and each thing wakes one thread."""
    queue = WorkQueue(9)
    early, late = sleeping(queue, 2)
    queue.put("a")
    assert late.result() == "a"
    assert len(queue._asleep) == 1
    queue._free -= 1  # the thread has ended, which no worker's does
    queue.put("b")
    assert early.result() == "b"


def test_nobody_is_woken_while_a_thread_is_free() -> None:
    """It comes for the next item by itself."""
    queue = WorkQueue(9)
    queue.put("a")
    assert queue.get() == "a"  # this thread is awake
    (sleeper,) = sleeping(queue)
    queue.put("b")
    queue.put("c")
    assert len(queue._asleep) == 1
    with queue.away():
        assert sleeper.result() == "b"
    assert queue.get() == "c"


@pytest.mark.parametrize("name", ["away", "calling"])
def test_a_thread_that_waits_for_something_else_lets_another_look(name: str) -> None:
    """Whatever comes meanwhile; when it is back it counts again, also after a fault."""
    queue = WorkQueue(9)
    queue.put("a")
    queue.get()
    (sleeper,) = sleeping(queue)
    context: AbstractContextManager[None] = getattr(queue, name)()
    with suppress(LookupError), context:
        assert len(queue._asleep) == 1
        queue.put("b")
        assert sleeper.result() == "b"
        with queue.away():  # a wait inside of a wait is one wait
            raise LookupError
    queue._free -= 1  # the thread that was woken has ended
    assert queue._free == 1


def test_a_thread_that_takes_no_items_is_not_counted() -> None:
    """A consumer that waits is no thread that would look."""
    queue = WorkQueue(9)
    with queue.away():
        assert queue._free == 0
    assert queue._free == 0


def test_who_wakes_for_nothing_new_sleeps_again() -> None:
    """Its item was taken by a thread that came by itself."""
    queue = WorkQueue(9)
    (sleeper,) = sleeping(queue)
    with queue.mutex:  # between the waking and what the woken thread does next
        queue._messages.append("a")
        queue._wake_if_needed()
        queue._messages.clear()
    with pytest.raises(Empty):
        sleeper.result()


def test_a_sleeper_looks_again_when_the_process_is_no_longer_full() -> None:
    """What waited meanwhile woke nobody."""
    queue = WorkQueue(1)
    pending = [1]
    queue.pending = lambda: pending[0]
    (sleeper,) = sleeping(queue)
    queue.put("a")
    assert len(queue._asleep) == 1
    pending[0] = 0
    queue.look()
    assert sleeper.result() == "a"


# ---------------------------------------------------------------------------------------------------------- accounting


def test_joining_waits_for_what_was_taken() -> None:
    """Messages and handed steps alike."""
    queue = WorkQueue(1)
    queue.put("a")
    queue.deliver(step(1))
    queue.get()
    queue.get()
    queue.task_done()
    joining = Running(queue.join)
    assert queue.unfinished_tasks == 1
    queue.task_done()
    joining.result()


def test_room_is_told_of_when_there_is_some() -> None:
    """What is in hand is what waits, what runs, and what is being recorded."""
    queue, told_of = WorkQueue(2), []
    pending = [1]
    queue.pending = lambda: pending[0]
    queue.on_room = lambda: told_of.append(queue.load())
    queue.put("a")
    queue.put("b")
    assert queue.load() == 3
    queue.task_done()
    assert told_of == []
    pending[0] = 0
    queue.look()
    queue.task_done()
    assert told_of == [1, 0]


class Pace:
    """A pace as it is told."""

    ended = 0

    def __init__(self, per_second: float):
        self.per_second = lambda: per_second


@pytest.mark.parametrize("per_second", [0, 1000])
def test_an_idle_process_takes_what_it_has_threads_for(per_second: float) -> None:
    """However quick its steps were: what it took more would wait here, while another process may be idle."""
    queue = WorkQueue(8)
    queue._pace = Pace(per_second)  # type: ignore[assignment]
    assert queue.wanted(0) == 8
    for number in range(3):
        queue.put(str(number))
    assert queue.wanted(0) == 5
    assert queue.wanted(6) == (4 if per_second else 2)  # held by the consumer, and not here yet


def test_slow_steps_are_not_fetched_ahead() -> None:
    queue = WorkQueue(8)
    queue._pace = Pace(20)  # type: ignore[assignment]  # under one in AHEAD
    for number in range(8):
        queue.put(str(number))
    assert queue.wanted(0) == 0
    queue.get()
    queue.task_done()
    assert queue.wanted(0) == 1


def test_quick_steps_are_fetched_ahead_several_at_a_time() -> None:
    queue = WorkQueue(8)
    queue._pace = Pace(1000)  # type: ignore[assignment]
    for number in range(8):
        queue.put(str(number))
    assert queue.wanted(0) == 2  # a quarter of the threads
    queue.put("one more")
    assert queue.wanted(0) == 0  # a fetch for one message is not worth it


def test_the_pace_is_what_ended_since_it_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    queue = WorkQueue(2)
    for _ in range(4):
        queue.put("a")
        queue.get()
        queue.task_done()
    now[0] = work_queue.LOOK / 2
    assert queue._pace.per_second() == 0  # too soon to tell
    now[0] = 0.5
    assert queue._pace.per_second() == 8
    now[0] = 1.5
    assert queue._pace.per_second() == 0


def test_a_commit_waits_for_others_only_where_many_calls_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """And lets another thread look meanwhile."""
    monkeypatch.setattr(work_queue, "MANY", 1)
    slept: list[int] = []
    queue = WorkQueue(9)
    queue.put("a")
    queue.get()
    monkeypatch.setattr(time, "sleep", lambda _: slept.append(queue._free))
    queue.linger()
    assert slept == []
    gate = Gate()

    def call() -> None:
        with queue.calling():
            gate.pass_through()

    calling = Running(call)
    gate.wait_for_someone()
    queue.linger()
    gate.open()
    calling.result()
    queue.linger()
    assert slept == [0]


def next_of(queue: WorkQueue) -> Any:
    """As Dramatiq's threads do: who was woken for what another one took comes again."""
    begin = time.monotonic()
    while True:
        try:
            return queue.get(timeout=LONG)
        except Empty:
            assert time.monotonic() - begin < LONG, "nobody woke it"


def test_many_threads_take_each_item_once() -> None:
    """And none is left while a thread sleeps."""
    queue, end = WorkQueue(10_000), threading.Barrier(6)

    def work() -> list[Any]:
        mine: list[Any] = []
        while (item := next_of(queue)) != "end":
            mine.append(told(item))
            with queue.away():
                pass
            queue.task_done()
        with queue.away():  # until the others have come to their end
            queue.put("end")
            end.wait(LONG)
        return mine

    threads = [Running(work) for _ in range(end.parties)]
    for number in range(1000):
        queue.put(f"m{number}")
        queue.deliver(step(number))
    queue.join()
    queue.put("end")
    took = [item for thread in threads for item in thread.result()]
    assert sorted(took, key=str) == sorted([*(f"m{n}" for n in range(1000)), *range(1000)], key=str)
