"""What a request may weigh, before anything reads it: bytes, depth, time for its body, and requests per caller.

Invariant: a body is never held beyond its limit, and what gets through can be parsed without deep recursion.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_center.api.problems import Problem

MAX_BODY = 1024 * 1024
MAX_BATCH_BODY = 16 * 1024 * 1024
MAX_DEPTH = 200
BODY_SECONDS = 15.0
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


class Limits:
    """An ASGI middleware. `per_second`: unsafe requests of one caller, with bursts of ten seconds' worth; 0: no limit."""

    def __init__(self, app: ASGIApp, per_second: float):
        self._app = app
        self._per_second = per_second
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS", "DELETE"):
            await self._app(scope, receive, send)
            return
        try:
            self._take(scope)
            body = await _read(scope, receive)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    def _take(self, scope: Scope) -> None:
        if not self._per_second:
            return
        headers = dict(scope["headers"])
        caller = (headers.get(b"authorization") or str((scope.get("client") or ("",))[0]).encode()).decode("latin-1")
        burst, now = 10 * self._per_second, time.monotonic()
        tokens, seen = self._buckets.pop(caller, (burst, now))
        tokens = min(burst, tokens + (now - seen) * self._per_second)
        self._buckets[caller] = max(tokens - 1, 0), now
        while len(self._buckets) > 10_000:
            self._buckets.popitem(last=False)
        if tokens < 1:
            wait = max(1, round((1 - tokens) / self._per_second))
            raise Problem("rate-limited", f"at most {self._per_second:g} a second", headers={"Retry-After": str(wait)})


async def _read(scope: Scope, receive: Receive) -> bytes:
    limit = MAX_BATCH_BODY if scope["path"].endswith("/executions/batch") else MAX_BODY
    headers = dict(scope["headers"])
    try:
        announced = int(headers.get(b"content-length", b"0"))
    except ValueError:
        raise Problem("invalid-request", "content-length is not a number") from None
    if announced > limit:
        raise Problem("body-too-large", f"at most {limit} bytes")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _collect(receive, limit)
    except TimeoutError:
        raise Problem("request-timeout", f"the body did not arrive within {BODY_SECONDS:g} s") from None
    check_depth(body)
    return body


async def _collect(receive: Receive, limit: int) -> bytes:
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem("invalid-request", "the body was cut off")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise Problem("body-too-large", f"at most {limit} bytes")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def check_depth(body: bytes) -> None:
    """Raises Problem for JSON nested deeper than MAX_DEPTH, without parsing it."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _TOKEN.finditer(body):
        first = token[0][:1]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Problem("too-deep", f"at most {MAX_DEPTH} levels")
        elif first in b"]}":
            depth -= 1
