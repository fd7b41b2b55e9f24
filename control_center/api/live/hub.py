"""The hub: hints and sweeps make topics due, one statement reads all that are, and each reader's outbox is filled.

A hint names executions, never what became of them. A topic is read four times a second, however many hints come and
however many readers it has; and every few seconds it is swept without any hint, so that what Redis lost, or what was
changed without a word (a claim, plain SQL), is told all the same. While Redis is away the sweeps alone go on: `polling`.
Everything here runs in the event loop's thread, but for the reading itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import anyio.to_thread

from control_center.api.live.hints import listen
from control_center.api.live.messages import EXECUTIONS, Mode, ModeChange, Refusal, say
from control_center.api.live.outbox import Outbox
from control_center.api.live.read_changes import Ask, Found, newest_changes, read_changes
from control_center.api.live.topic import Topic
from persistence.errors import Afu9Error, TooSlow
from persistence.pool import Pool

log = logging.getLogger(__name__)

SETTLE = 0.03  # seconds from a hint to the reading: a free worker has then claimed what became ready
PACE = 0.25  # seconds between two readings of a topic, and a second one at once after a pause
SWEEP = 5.0  # seconds between sweeps
AFTER_A_FAULT = 1.0  # seconds
AT_ONCE = 500  # topics in one reading
JOINING_AT_ONCE = 10  # of them, those that are told what changed since long ago
HINTED_AT_MOST = 2000  # executions of the list in one reading
READERS_AT_MOST = 2000
RESTART = 1012


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels the tasks until every one has ended, whatever it ends with.

    Once may be too little: before Python 3.12 `asyncio.wait_for` swallows a cancellation that comes when what it waits for
    is done, and redis sends with it.
    """
    going: Collection[asyncio.Task[Any]] = tasks
    while going:
        for task in going:
            task.cancel()
        _, going = await asyncio.wait(going, timeout=0.1)
    await asyncio.gather(*tasks, return_exceptions=True)


class Hub:
    """`pool` is read through; `redis_url` and `channel` are where hints come from."""

    def __init__(self, pool: Pool, redis_url: str, channel: str):
        self.mode: Mode = "polling"
        self.closing = False
        self._pool = pool
        self._redis_url = redis_url
        self._channel = channel
        self._outboxes: set[Outbox] = set()
        self._topics: dict[str, Topic] = {}
        self._hinted: set[UUID] = set()  # for the list
        self._due: set[Topic] = set()
        self._wake = asyncio.Event()
        self._at_once = AT_ONCE
        self._thread = anyio.CapacityLimiter(1)

    # ------------------------------------------------------------------------------------------ readers

    def join(self) -> Outbox | None:
        """A new reader's outbox; None if there are too many, or the process is about to end."""
        if self.closing or len(self._outboxes) >= READERS_AT_MOST:
            return None
        outbox = Outbox()
        self._outboxes.add(outbox)
        return outbox

    def readers(self) -> int:
        """How many there are."""
        return len(self._outboxes)

    def leave(self, outbox: Outbox) -> None:
        self._outboxes.discard(outbox)
        for name in list(outbox.topics):
            self.unsubscribe(outbox, name)

    def subscribe(self, outbox: Outbox, name: str, after: datetime | None = None) -> None:
        """The topic's next reading lets the reader in, and tells what changed after that position."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = Topic(name)
        outbox.topics.add(name)
        outbox.drop(name)
        topic.readers.discard(outbox)
        topic.joining[outbox] = after
        topic.again = PACE
        self._make_due(topic, 0.0)

    def unsubscribe(self, outbox: Outbox, name: str) -> None:
        outbox.topics.discard(name)
        outbox.drop(name)
        if (topic := self._topics.get(name)) is not None:
            topic.readers.discard(outbox)
            topic.joining.pop(outbox, None)
            if not (topic.readers or topic.joining):
                del self._topics[name]
                self._due.discard(topic)

    def goodbye(self) -> None:
        """The process is about to end: every reader is told to come again elsewhere."""
        self.closing = True
        for outbox in self._outboxes:
            outbox.end(RESTART)

    # ------------------------------------------------------------------------------------------ what makes topics due

    def hint(self, executions: Iterable[UUID]) -> None:
        """These have changed."""
        listed = self._topics.get(EXECUTIONS)
        for execution_id in executions:
            if listed is not None and len(self._hinted) <= HINTED_AT_MOST:
                self._hinted.add(execution_id)
            if (topic := self._topics.get(f"execution:{execution_id}")) is not None:
                topic.again = PACE
                self._make_due(topic, SETTLE)
        if listed is not None and self._hinted:
            self._make_due(listed, SETTLE)

    def set_mode(self, mode: Mode) -> None:
        """Redis went away or came back: either way hints may have been lost."""
        if mode == self.mode:
            return
        log.info("live: %s", "hints come" if mode == "live" else "no hints come: rows are read every few seconds")
        self.mode = mode
        message = say(ModeChange(mode=mode))
        for outbox in self._outboxes:
            outbox.say(message)
        self.sweep()

    def sweep(self) -> None:
        """Every topic is to be read, back to before the longest transaction."""
        for topic in self._topics.values():
            topic.wide = True
            self._make_due(topic, 0.0)

    def _make_due(self, topic: Topic, wait: float) -> None:
        at = max(asyncio.get_running_loop().time() + wait, topic.free_at)
        if topic.due_at is None or at < topic.due_at:
            topic.due_at = at
            self._due.add(topic)
            self._wake.set()

    # ------------------------------------------------------------------------------------------ the loops

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """From the application's start to its end."""
        tasks = [
            asyncio.create_task(self._keep_reading(), name="live reader"),
            asyncio.create_task(self._keep_sweeping(), name="live sweep"),
            asyncio.create_task(listen(self._redis_url, self._channel, self.hint, self.set_mode), name="live hints"),
        ]
        try:
            yield
        finally:
            self.goodbye()
            await end(tasks)

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            self.sweep()

    async def _keep_reading(self) -> None:
        while True:
            topics = await self._next_topics()
            try:
                await self._read(topics)
            except TooSlow as error:
                log.warning("live: %s", error)
                self._shrink(topics)
            except Afu9Error as error:
                log.warning("live: %s", error)
                self._put_off(topics)
            except Exception:  # a loop that ends would leave every reader without a word
                log.exception("live: unexpected fault, going on")
                self._put_off(topics)

    async def _next_topics(self) -> list[Topic]:
        """Those that are due, once there are some."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            now = loop.time()
            ready = [topic for topic in self._due if topic.due_at is not None and topic.due_at <= now]
            if ready:
                return self._chosen(ready)
            waits = min((topic.due_at for topic in self._due if topic.due_at is not None), default=None)
            try:
                async with asyncio.timeout_at(waits):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _chosen(self, ready: list[Topic]) -> list[Topic]:
        """At most what one reading can bear, the longest due first; what they wait for is cleared."""
        ready.sort(key=lambda topic: topic.due_at or 0.0)
        chosen: list[Topic] = []
        joining = 0
        for topic in ready:
            resumes = any(after is not None for after in topic.joining.values())
            if len(chosen) < self._at_once and (not resumes or joining < JOINING_AT_ONCE):
                joining += resumes
                chosen.append(topic)
        for topic in chosen:
            topic.due_at = None
            self._due.discard(topic)
        return chosen

    async def _read(self, topics: list[Topic]) -> None:
        listed = next((topic for topic in topics if topic.execution_id is None), None)
        hinted, self._hinted = (self._hinted, set()) if listed is not None else (set(), self._hinted)
        asks = [Ask(topic.execution_id, *topic.begin()) for topic in topics if topic.execution_id is not None]
        own = {ask.execution_id for ask in asks}
        asks += [Ask(one, None, 0.0, steps=False) for one in list(hinted - own)[:HINTED_AT_MOST]]
        look = listed.begin() if listed is not None and (listed.joining or listed.wide) else None
        try:
            found, newest = await anyio.to_thread.run_sync(self._read_rows, asks, look, limiter=self._thread)
        except Exception:
            self._hinted |= hinted
            raise
        self._at_once = min(2 * self._at_once, AT_ONCE)
        now = asyncio.get_running_loop().time()
        for topic in topics:
            topic.free_at = max(topic.free_at, now - PACE) + PACE
            if topic.execution_id is not None:
                self._tell(topic, found.get(topic.execution_id))
        if listed is not None:
            self._tell_list(listed, found, hinted, newest)

    def _read_rows(
        self, asks: list[Ask], look: tuple[datetime | None, float] | None
    ) -> tuple[dict[UUID, Found], Found | None]:
        found = read_changes(self._pool, asks) if asks else {}
        return found, newest_changes(self._pool, *look) if look is not None else None

    def _tell(self, topic: Topic, found: Found | None) -> None:
        if found is None:
            self._refuse(topic)
            return
        topic.tell(found.changes, found.read_at, found.complete_from)
        if found.awaits_claim and PACE <= topic.again < SWEEP:
            self._make_due(topic, topic.again)
            topic.again *= 2

    def _tell_list(self, topic: Topic, found: dict[UUID, Found], hinted: set[UUID], newest: Found | None) -> None:
        changes = {one.changes[0].id: one.changes[0] for execution_id, one in found.items() if execution_id in hinted}
        if newest is not None:
            changes |= {change.id: change for change in newest.changes}
        read_at = newest.read_at if newest is not None else topic.position
        if read_at is None:  # the first reading of a list always asks for the newest
            return
        complete_from = newest.complete_from if newest is not None else None
        topic.tell(list(changes.values()), read_at, complete_from)
        if len(hinted) > HINTED_AT_MOST:
            topic.skip()

    def _refuse(self, topic: Topic) -> None:
        """There is no such execution."""
        message = say(Refusal(code="not-found", topic=topic.name))
        for outbox in [*topic.readers, *topic.joining]:
            outbox.say(message)
            self.unsubscribe(outbox, topic.name)

    def _put_off(self, topics: list[Topic]) -> None:
        for topic in topics:
            if topic.name in self._topics:
                topic.wide = True
                self._make_due(topic, AFTER_A_FAULT)

    def _shrink(self, topics: list[Topic]) -> None:
        """Fewer at once; one that is too much alone is read anew by its readers."""
        self._at_once = max(1, len(topics) // 2)
        if len(topics) == 1:
            topics[0].skip()
        self._put_off(topics)
