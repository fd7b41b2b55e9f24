"""A reader of live updates over a real socket; whatever it hears must fit docs/live-protocol.json."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from jsonschema import Draft202012Validator
from websockets.sync.client import ClientConnection, connect

from orchestrator.broker import StepBroker
from persistence.pool import Pool
from persistence.transitions import ReadyStep, Transition
from tests.integration.test_transitions import WORKER
from tests.workflows import FunctionTools, echo
from workers.in_flight import InFlight
from workers.run_step import AttemptFailed, StepRunner

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "live-protocol.json").read_text())
FRAME = Draft202012Validator(SCHEMA | {"$ref": "#/$defs/ServerFrame", "anyOf": [True]})
Message = dict[str, Any]


class Reader:
    """All that one socket has heard, in order."""

    checked = True  # whether each frame is held against the schema, which takes a millisecond a message

    def __init__(self, socket: ClientConnection):
        self.socket = socket
        self.heard: list[Message] = []

    def ask(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def subscribe(self, *topics: str, after: Mapping[str, str] | None = None) -> None:
        """Returns once all of them are."""
        self.ask(op="subscribe", topics=topics, **({"after": after} if after else {}))
        for topic in topics:
            self.until(lambda one, topic=topic: one["op"] == "subscribed" and one["topic"] == topic)

    def hear(self, seconds: float) -> list[Message]:
        """The next frame's messages. Raises TimeoutError, ConnectionClosed."""
        frame = json.loads(self.socket.recv(timeout=seconds))
        if self.checked:
            FRAME.validate(frame)
        messages: list[Message] = frame if isinstance(frame, list) else [frame]
        self.heard += messages
        return messages

    def until(self, condition: Callable[[Message], bool], seconds: float = 10) -> Message:
        """The first message that meets the condition, of those heard and those to come."""
        deadline = time.monotonic() + seconds
        fresh = self.heard
        while True:
            for message in fresh:
                if condition(message):
                    return message
            try:
                fresh = self.hear(max(deadline - time.monotonic(), 0.001))
            except TimeoutError:
                raise AssertionError(f"not heard within {seconds} s; heard: {self.heard}") from None

    def events(self, topic: str) -> list[Message]:
        return [one for one in self.heard if one["op"] == "event" and one["topic"] == topic]

    def states(self, topic: str) -> list[tuple[str, str]]:
        """(step's name or `execution`, status) of each event, in order."""
        return [(one["data"].get("name", "execution"), one["data"]["status"]) for one in self.events(topic)]

    def position(self, topic: str) -> str:
        """To resume from."""
        found: str = [one for one in self.heard if one.get("topic") == topic and "position" in one][-1]["position"]
        return found


@contextmanager
def reading(url: str, *topics: str, after: Mapping[str, str] | None = None, **options: Any) -> Iterator[Reader]:
    """A socket that has been greeted and has subscribed."""
    with connect(url.replace("http", "ws", 1) + "/api/workflow/ws", **options) as socket:
        reader = Reader(socket)
        reader.until(lambda one: one["op"] == "hello")
        if topics:
            reader.subscribe(*topics, after=after)
        yield reader


def ended(status: str) -> Callable[[Message], bool]:
    """The execution of the topic has come to this status."""
    return lambda one: one["op"] == "event" and one["type"] == "execution.changed" and one["data"]["status"] == status


def step_is(name: str, status: str) -> Callable[[Message], bool]:
    return lambda one: one["op"] == "event" and (one["data"].get("name"), one["data"]["status"]) == (name, status)


class OneWorker:
    """Runs steps in the test's own thread, through what a worker runs them through, hints included."""

    def __init__(self, pool: Pool, broker: StepBroker, **tools: Callable[..., Any]):
        self.runner = StepRunner(pool, broker, FunctionTools(**({"echo": echo} | tools)), WORKER, InFlight())

    def run(self, step: ReadyStep) -> Transition:
        with self.runner.in_flight.only(step):
            try:
                transition = self.runner.run_step(step)
            except AttemptFailed as failed:
                transition = self.runner.recorder.advance(failed.attempt)
        assert transition is not None
        return transition

    def run_all(self, step: ReadyStep) -> None:
        """A sequence from this step to its end."""
        ready: tuple[ReadyStep, ...] = (step,)
        while ready:
            ready = self.run(ready[0]).ready


def topic_of(execution_id: UUID) -> str:
    return f"execution:{execution_id}"
