"""The live protocol's messages, version 1. docs/live-protocol.json is made of these models.

A server's text frame holds one message, or an array of them when several wait. Positions are opaque to clients; they are
the newest time of change that was told.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from control_center.api import shapes

PROTOCOL = 1
HEARTBEAT_SECONDS = 10.0
TOPICS_AT_MOST = 100  # of one reader
MESSAGE_AT_MOST = 65_536  # characters of a client's message
EXECUTIONS = "executions"
TOPIC = r"^(executions|execution:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$"
POSITION = r"^[0-9a-f]{1,16}$"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Mode = Literal["live", "polling"]
TopicName = Annotated[str, Field(pattern=TOPIC)]
Position = Annotated[str, Field(pattern=POSITION, description="Opaque; give it back as `after` or Last-Event-ID")]


class _Message(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True)


class Hello(_Message):
    """The first message. A server that says nothing for twice `heartbeatMs` is gone."""

    op: Literal["hello"] = "hello"
    protocol: int = PROTOCOL
    server: str
    heartbeat_ms: int
    mode: Mode


class Subscribed(_Message):
    """From here on changes of the topic are told; whoever reads the execution after this misses nothing."""

    op: Literal["subscribed"] = "subscribed"
    topic: TopicName
    position: Position


class StepChange(_Message):
    """A step as the API shows it, without its payloads."""

    id: str
    name: str
    index: int
    status: str
    tool: str | None
    started_at: str | None
    completed_at: str | None
    duration_ms: int | None
    error: str | None
    error_kind: str | None
    retry_count: int
    cost_usd: str | None
    unpriced_calls: int | None
    attempt: int
    next_run_at: str | None
    claimed_at: str | None


class Event(_Message):
    """A row as it is now. States in between may be left out; after a resumption the newest may come again."""

    op: Literal["event"] = "event"
    topic: TopicName
    position: Position
    type: Literal["execution.changed", "step.changed"]
    data: shapes.ExecutionRow | StepChange


class ModeChange(_Message):
    """live: changes are told within a moment. polling: Redis is away, and they are told within some seconds."""

    op: Literal["mode"] = "mode"
    mode: Mode


class Resync(_Message):
    """Changes of the topic were too many to be told: read it anew over HTTP."""

    op: Literal["resync"] = "resync"
    topic: TopicName
    position: Position


class Ping(_Message):
    """Nothing is asked: it keeps the connection."""

    op: Literal["ping"] = "ping"


class Pong(_Message):
    """To a client's ping."""

    op: Literal["pong"] = "pong"


class Refusal(_Message):
    """What the client asked was not done; the connection stays."""

    op: Literal["error"] = "error"
    code: Literal["bad-message", "unknown-op", "unknown-topic", "too-many-topics", "bad-position", "not-found"]
    topic: str | None = None


class Subscribe(_Message):
    """`after`: for each topic the newest position that was received; what changed since is told first."""

    op: Literal["subscribe"]
    topics: list[str]
    after: dict[str, str] = Field(default_factory=dict)


class Unsubscribe(_Message):
    op: Literal["unsubscribe"]
    topics: list[str]


class ClientPing(_Message):
    op: Literal["ping"]


FROM_SERVER = (Hello, Subscribed, Event, ModeChange, Resync, Ping, Pong, Refusal)
FROM_CLIENT = (Subscribe, Unsubscribe, ClientPing)
_CLIENT: TypeAdapter[Subscribe | Unsubscribe | ClientPing] = TypeAdapter(
    Annotated[Subscribe | Unsubscribe | ClientPing, Field(discriminator="op")]
)


@dataclass(frozen=True, slots=True)
class Message:
    """A message ready to be sent. `name` is its SSE event; `position` what a stream resumes from."""

    name: str
    text: str
    position: str | None = None


def say(model: BaseModel) -> Message:
    """Any message but an event: those are many, and put together by `event`."""
    fields = model.model_dump(by_alias=True, exclude_none=True)
    # "error" is what an EventSource calls its own troubles
    name = "refused" if fields["op"] == "error" else fields["op"]
    return Message(name, json.dumps(fields), fields.get("position"))


def event(topic: str, position: datetime, kind: str, data: str) -> Message:
    """`data` is JSON text."""
    at = write_position(position)
    return Message(kind, f'{{"op":"event","topic":"{topic}","position":"{at}","type":"{kind}","data":{data}}}', at)


def understand(text: str) -> Subscribe | Unsubscribe | ClientPing | Refusal:
    """A client's message, or what is wrong with it. Raises ValueError for what is no JSON."""
    try:
        given = json.loads(text)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(given, dict):
        return Refusal(code="bad-message")
    if given.get("op") not in ("subscribe", "unsubscribe", "ping"):
        return Refusal(code="unknown-op")
    try:
        return _CLIENT.validate_python(given)
    except ValidationError:
        return Refusal(code="bad-message")


def is_topic(name: str) -> bool:
    return re.fullmatch(TOPIC, name) is not None


def write_position(moment: datetime) -> str:
    return f"{(moment - EPOCH) // timedelta(microseconds=1):x}"


def read_position(position: str) -> datetime:
    """Raises ValueError for what is none."""
    if not re.fullmatch(POSITION, position):
        raise ValueError("not a position")
    try:
        return EPOCH + timedelta(microseconds=int(position, 16))
    except OverflowError:
        raise ValueError("not a position") from None


def protocol_schema() -> Mapping[str, Any]:
    """JSON Schema: `#/$defs/ServerFrame` and `#/$defs/ClientMessage`."""
    models: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        (model, "serialization") for model in (*FROM_SERVER, *FROM_CLIENT)
    ]
    _, definitions = models_json_schema(models)
    for model, _mode in models:
        required = definitions["$defs"][model.__name__].setdefault("required", [])
        required[:] = ["op", *(name for name in required if name != "op")]

    def refs(classes: tuple[type[BaseModel], ...]) -> list[dict[str, str]]:
        return [{"$ref": f"#/$defs/{one.__name__}"} for one in classes]

    server = {"$ref": "#/$defs/ServerMessage"}
    frame = {"anyOf": [server, {"type": "array", "items": server, "minItems": 1}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"AFU-9 live protocol, version {PROTOCOL}",
        "anyOf": [{"$ref": "#/$defs/ServerFrame"}, {"$ref": "#/$defs/ClientMessage"}],
        "$defs": definitions["$defs"]
        | {
            "ServerMessage": {"oneOf": refs(FROM_SERVER)},
            "ServerFrame": frame,
            "ClientMessage": {"oneOf": refs(FROM_CLIENT)},
        },
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(protocol_schema(), indent=2, ensure_ascii=False) + "\n")
