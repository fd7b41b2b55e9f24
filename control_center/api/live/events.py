"""GET /api/workflow/events: the same live updates as server-sent events, for curl and where upgrades are blocked.

Each event's data is the message that the socket would carry. One Last-Event-ID resumes all topics: positions of all topics
are times of one clock, a resumption goes back by `topic.LONGEST`, and no topic is told later than that after another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Message as AsgiMessage
from starlette.types import Send

from control_center.api.auth import needs
from control_center.api.live.admit import check, hello
from control_center.api.live.hub import Hub
from control_center.api.live.messages import HEARTBEAT_SECONDS, TOPICS_AT_MOST, Message, is_topic, read_position
from control_center.api.live.outbox import Outbox
from control_center.api.problems import Problem, documented
from persistence.errors import Afu9Error

router = APIRouter(prefix="/api/workflow", tags=["live"])

SEND_SECONDS = 10.0  # that a reader may take for what is sent at once
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A stream that does not end. `data` is a message of docs/live-protocol.json",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


class EventStream(StreamingResponse):
    """Gives up a reader that does not read."""

    media_type = "text/event-stream"

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: AsgiMessage) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        with suppress(TimeoutError):
            await super().stream_response(send_in_time)


@router.get(
    "/events",
    response_class=EventStream,
    responses={**STREAM, **documented("invalid-request", "too-many-readers")},
    dependencies=[Depends(needs("viewer"))],
)
async def follow_events(
    request: Request,
    topics: Annotated[str, Query(description="`executions`, `execution:<id>`; several with commas", max_length=5000)],
    last_event_id: Annotated[str | None, Header(description="The id of the newest event that was received")] = None,
) -> EventStream:
    """Live changes of the topics as server-sent events; ids are positions, comments keep the connection."""
    names = list(dict.fromkeys(topics.split(",")))
    if len(names) > TOPICS_AT_MOST or not all(is_topic(name) for name in names):
        raise Problem("invalid-request", f"topics are `executions` and `execution:<id>`, at most {TOPICS_AT_MOST}")
    hub: Hub = request.app.state.hub
    after = _position(last_event_id)
    outbox = hub.join()
    if outbox is None:
        raise Problem("too-many-readers", "come again in a moment", headers={"Retry-After": "2"})
    outbox.say(hello(hub))
    for name in names:
        hub.subscribe(outbox, name, after)
    return EventStream(_lines(request, hub, outbox), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


def _position(last_event_id: str | None) -> datetime | None:
    if not last_event_id:
        return None
    try:
        return read_position(last_event_id)
    except ValueError:
        raise Problem("invalid-request", "Last-Event-ID is none of ours") from None


async def _lines(request: Request, hub: Hub, outbox: Outbox) -> AsyncIterator[str]:
    try:
        while outbox.ended is None:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await outbox.filled.wait()
            except TimeoutError:
                yield ": ping\n\n"
                if not await _may_stay(request):
                    return
                continue
            yield "".join(map(_line, outbox.take()))
    finally:
        hub.leave(outbox)


async def _may_stay(request: Request) -> bool:
    try:
        await check(request)
    except Problem:
        return False
    except Afu9Error:
        pass  # the database is away: nothing says that it may not
    return True


def _line(message: Message) -> str:
    position = f"id: {message.position}\n" if message.position else ""
    return f"{position}event: {message.name}\ndata: {message.text}\n\n"
