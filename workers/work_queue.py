"""The work queue of a worker: messages from Redis, and before them the steps that this process goes on with.

A step that follows in a sequence is claimed by the transaction that completes the one before it (orchestrator/advance.py),
and its message is delivered here: Dramatiq and its middleware see it as any message.

As few threads are awake as can do the work. A thread is woken only when something waits and every thread that is awake is
itself waiting, for a tool or for PostgreSQL (`away`); each wake costs more than a quick step. The thread that went to
sleep last is woken first.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty
from typing import Any

from dramatiq.worker import _WorkQueueItem

from orchestrator.push import handed_message
from persistence.transitions import ReadyStep

MOST = 50  # steps that a process goes on with a sequence while other messages wait
LONGEST = 1.0  # seconds of it: after slow steps the way through Redis costs nothing
MANY = 16  # calls under way, from which on a commit waits for more results
MOMENT = 0.002  # seconds that it waits
AHEAD = 0.02  # seconds of work that are fetched before there is a thread for it
LOOK = 0.01  # seconds over which the pace of steps is measured, at least


class WorkQueue:
    """Stands in for the queue of a Dramatiq worker with `slots` threads, and does what Dramatiq asks of one. Items leave in
    the order in which they came, handed steps first."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self.mutex = threading.Lock()
        self.unfinished_tasks = 0
        self._all_done = threading.Condition(self.mutex)
        self._handed: deque[Any] = deque()
        self._messages: deque[Any] = deque()
        self._asleep: list[_Sleeper] = []
        self.pending: Callable[[], int] = lambda: 0  # completed steps whose successors may come back
        self.on_room: Callable[[], None] = lambda: None  # called when more may be begun
        self._calls = 0  # of tools, under way
        self._pace = _Pace()
        self._free = 0  # threads that are awake and not away, and will look here
        self._here = threading.local()  # .counted: whether this thread is among them

    def put(self, item: Any) -> None:
        with self.mutex:
            self.unfinished_tasks += 1
            self._messages.append(item)
            self._wake_if_needed()

    def deliver(self, step: ReadyStep) -> None:
        """A step that this process has claimed."""
        item = _WorkQueueItem(0, handed_message(step))  # no redis_message_id: nothing to settle there
        with self.mutex:
            self.unfinished_tasks += 1
            self._handed.append(item)
            self._wake_if_needed()

    def has_room_for(self, steps: int, since: float) -> bool:
        """Whether this process goes on with a sequence that it has followed for so many steps since then."""
        if not self._messages:
            return True
        return steps < MOST and time.monotonic() - since < LONGEST

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The next item. Raises queue.Empty when none came within `timeout` seconds."""
        with self.mutex:
            if not block:  # Dramatiq empties it
                if not (self._handed or self._messages):
                    raise Empty
                return (self._handed or self._messages).popleft()
            self._count_in()
            if self._has_work():
                return self._pop()
            sleeper = _Sleeper()
            self._asleep.append(sleeper)
            self._free -= 1
        woken = sleeper.latch.acquire(timeout=-1 if timeout is None else timeout)
        with self.mutex:
            if not woken and sleeper in self._asleep:
                self._asleep.remove(sleeper)
                self._free += 1
            return self._pop()

    def look(self) -> None:
        """What is waiting here may be taken now."""
        with self.mutex:
            self._wake_if_needed()
        self._tell_of_room()

    def load(self) -> int:
        """How many steps this process has in hand: waiting here, under way, or about to be followed by their successors."""
        return self.unfinished_tasks + self.pending()

    def wanted(self, held: int) -> int:
        """How many messages to fetch now, if so many are held; none if so few would not be worth it. What waits here waits
        while another process may be idle: so only quick steps are fetched ahead, by a quarter of the threads at most."""
        ahead = min(round(self._pace.per_second() * AHEAD), max(self._slots // 4, 1))
        free = self._slots - max(held, self.load())
        if free <= ahead:
            free += ahead
        return free if free >= max(ahead, 1) else 0

    def _tell_of_room(self) -> None:
        if self.load() < self._slots:
            self.on_room()

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def task_done(self) -> None:
        with self.mutex:
            self.unfinished_tasks -= 1
            self._pace.ended += 1
            if not self.unfinished_tasks:
                self._all_done.notify_all()
        self._tell_of_room()

    def join(self) -> None:
        with self.mutex:
            while self.unfinished_tasks:
                self._all_done.wait()

    def empty(self) -> bool:
        return not (self._handed or self._messages)

    def calling(self) -> _Away:
        """As `away`, for the call of a tool."""
        return _Away(self, 1)

    def linger(self) -> None:
        """Before a commit: where many calls are under way, others end within a moment, and one commit serves them all."""
        if self._calls >= MANY:
            with self.away():
                time.sleep(MOMENT)

    def away(self) -> _Away:
        """While this thread waits for something else, another looks after what is here."""
        return _Away(self, 0)

    def _leave(self, calls: int) -> bool:
        """Whether this thread was awake here until now."""
        counted = getattr(self._here, "counted", False)
        if counted or calls:
            with self.mutex:
                self._calls += calls
                if counted:
                    self._free -= 1
                    self._here.counted = False
                    self._wake_if_needed()
        return counted

    def _come_back(self, counted: bool, calls: int) -> None:
        if counted or calls:
            with self.mutex:
                self._calls -= calls
                if counted:
                    self._free += 1
                    self._here.counted = True

    def _count_in(self) -> None:
        if not getattr(self._here, "counted", False):
            self._here.counted = True
            self._free += 1

    def _pop(self) -> Any:
        if self._handed:
            return self._handed.popleft()
        if self._messages and not self._full():
            return self._messages.popleft()
        raise Empty

    def _has_work(self) -> bool:
        return bool(self._handed or (self._messages and not self._full()))

    def _full(self) -> bool:
        """Whether this process has begun enough: it goes on with that before it begins anything else."""
        return self.pending() >= self._slots

    def _wake_if_needed(self) -> None:
        if self._free <= 0 and self._asleep and self._has_work():
            self._free += 1  # it counts from now on, so that nobody else is woken for the same
            self._asleep.pop().latch.release()


class _Away:
    """A context manager. (A class: a generator costs each use 0.7 microseconds more.)"""

    __slots__ = ("_calls", "_counted", "_queue")

    def __init__(self, queue: WorkQueue, calls: int) -> None:
        self._queue = queue
        self._calls = calls

    def __enter__(self) -> None:
        self._counted = self._queue._leave(self._calls)

    def __exit__(self, *_: object) -> None:
        self._queue._come_back(self._counted, self._calls)


class _Pace:
    """How quickly steps end."""

    def __init__(self) -> None:
        self.ended = 0
        self._ended_then, self._then = 0, time.monotonic()
        self._last = 0.0

    def per_second(self) -> float:
        """Since the last time it was asked."""
        now = time.monotonic()
        if now - self._then >= LOOK:
            self._last = (self.ended - self._ended_then) / (now - self._then)
            self._ended_then, self._then = self.ended, now
        return self._last


class _Sleeper:
    __slots__ = ("latch",)

    def __init__(self) -> None:
        self.latch = threading.Lock()
        self.latch.acquire()
