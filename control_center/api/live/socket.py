"""GET /api/workflow/ws: live updates over a WebSocket. docs/api-live.md is its reference.

Invariant: nothing that a client sends, or fails to read, hurts another reader or the process; whatever ends a socket has a
close code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from control_center.api.live.admit import check, hello
from control_center.api.live.hub import RESTART, Hub, end
from control_center.api.live.messages import (
    HEARTBEAT_SECONDS,
    MESSAGE_AT_MOST,
    TOPICS_AT_MOST,
    ClientPing,
    Ping,
    Pong,
    Refusal,
    Subscribe,
    Unsubscribe,
    is_topic,
    read_position,
    say,
    understand,
)
from control_center.api.live.outbox import TOO_SLOW, Outbox
from control_center.api.problems import Problem
from persistence.errors import Afu9Error

router = APIRouter(prefix="/api/workflow")

SEND_SECONDS = 10.0  # that a reader may take for one frame
BAD_MESSAGE, UNAUTHENTICATED, FORBIDDEN, AGAIN_LATER = 4400, 4401, 4403, 1013
CODES = {"unauthenticated": UNAUTHENTICATED, "foreign-origin": FORBIDDEN, "forbidden": FORBIDDEN}
Ended = tuple[int, str] | None  # close code and reason; None: the client has closed


@router.websocket("/ws")
async def follow_over_socket(websocket: WebSocket) -> None:
    """Accepts first: a browser is told nothing of why a handshake was refused."""
    await websocket.accept()
    hub: Hub = websocket.app.state.hub
    if (refused := await _refused(websocket)) is not None:
        await _close(websocket, refused)
    elif (outbox := hub.join()) is None:
        await _close(websocket, (RESTART, "it restarts") if hub.closing else (AGAIN_LATER, "too many readers"))
    else:
        try:
            outbox.say(hello(hub))
            ended = await _first(_send(websocket, outbox), _receive(websocket, hub, outbox), _keep(websocket, outbox))
        finally:
            hub.leave(outbox)
        if ended is not None:
            await _close(websocket, ended)


async def _refused(websocket: WebSocket) -> Ended:
    try:
        await check(websocket)
    except Problem as problem:
        return CODES.get(problem.slug, AGAIN_LATER), problem.slug
    except Afu9Error:
        return AGAIN_LATER, "database-away"
    return None


async def _first(*parts: Coroutine[Any, Any, Ended]) -> Ended:
    """Runs the parts until one of them ends; what it ended with."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(done)).result()
    finally:
        await end(tasks)


async def _send(websocket: WebSocket, outbox: Outbox) -> Ended:
    while True:
        await outbox.filled.wait()
        if outbox.ended is not None:
            return outbox.ended, "too slow" if outbox.ended == TOO_SLOW else "it restarts"
        texts = [message.text for message in outbox.take()]
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await websocket.send_text(texts[0] if len(texts) == 1 else f"[{','.join(texts)}]")
        except TimeoutError:
            return TOO_SLOW, "too slow"
        except WebSocketDisconnect:
            return None


async def _receive(websocket: WebSocket, hub: Hub, outbox: Outbox) -> Ended:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        text = message.get("text")
        if text is None:
            return BAD_MESSAGE, "binary frames mean nothing here"
        if len(text) > MESSAGE_AT_MOST:
            return BAD_MESSAGE, f"at most {MESSAGE_AT_MOST} characters"
        try:
            asked = understand(text)
        except ValueError:
            return BAD_MESSAGE, "not JSON"
        _answer(hub, outbox, asked)


def _answer(hub: Hub, outbox: Outbox, asked: Subscribe | Unsubscribe | ClientPing | Refusal) -> None:
    match asked:
        case Subscribe(topics=topics, after=after):
            if len(outbox.topics.union(topics)) > TOPICS_AT_MOST:
                outbox.say(say(Refusal(code="too-many-topics")))
                return
            for topic in topics:
                _subscribe(hub, outbox, topic, after.get(topic))
        case Unsubscribe(topics=topics):
            for topic in topics:
                hub.unsubscribe(outbox, topic)
        case ClientPing():
            outbox.say(say(Pong()))
        case Refusal():
            outbox.say(say(asked))


def _subscribe(hub: Hub, outbox: Outbox, topic: str, after: str | None) -> None:
    if not is_topic(topic):
        outbox.say(say(Refusal(code="unknown-topic", topic=topic[:100])))
        return
    try:
        hub.subscribe(outbox, topic, None if after is None else read_position(after))
    except ValueError:
        outbox.say(say(Refusal(code="bad-position", topic=topic)))


async def _keep(websocket: WebSocket, outbox: Outbox) -> Ended:
    """The heartbeat, and whether the reader may still read."""
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        outbox.say(say(Ping()))
        refused = await _refused(websocket)
        if refused is not None and refused[0] != AGAIN_LATER:
            return refused


async def _close(websocket: WebSocket, ended: tuple[int, str]) -> None:
    try:
        async with asyncio.timeout(1):
            await websocket.close(*ended)
    except (TimeoutError, RuntimeError, WebSocketDisconnect):  # it is closed already, or reads nothing
        pass
