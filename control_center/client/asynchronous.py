"""AsyncClient: the operations, carried out on the running asyncio loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from control_center.client import follow, keep, operate, start
from control_center.client.call import Call, Pause, attempt
from control_center.client.connect import LIMITS, Connection, answer_of
from control_center.client.errors import ClientError
from control_center.client.flow import Emit, Flow, Stream

P = ParamSpec("P")
T = TypeVar("T")


def _returns(operation: Callable[P, Flow[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    @wraps(operation)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        flow = operation(*args, **kwargs)
        try:
            effect = next(flow)
            while True:
                try:
                    answer = await self._do(effect)
                except ClientError as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(answer)
        except StopIteration as stop:
            value: T = stop.value
            return value

    return method


def _yields(operation: Callable[P, Stream[T]]) -> Callable[Concatenate[AsyncClient, P], AsyncIterator[T]]:
    @wraps(operation)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        stream, answer = operation(*args, **kwargs), None
        while True:
            try:
                effect = stream.send(answer)  # type: ignore[arg-type]  # None where no answer is waited for
            except StopIteration:
                return
            answer = None
            if isinstance(effect, Emit):
                yield effect.value
            else:
                answer = await self._do(effect)

    return method


class AsyncClient(Connection):
    """Talks to an AFU-9 API from one asyncio loop. Close it with `aclose`, or use it in an `async with`."""

    def _open(self) -> None:
        self._http = httpx.AsyncClient(limits=LIMITS)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _do(self, effect: Call | Pause) -> Any:
        if isinstance(effect, Pause):
            return await self._try(effect)
        attempts = attempt(effect, self._patience)
        try:
            tried = next(attempts)
            while True:
                tried = attempts.send(await self._try(tried))
        except StopIteration as stop:
            return stop.value

    async def _try(self, effect: Call | Pause) -> Any:
        if isinstance(effect, Pause):
            return await asyncio.sleep(effect.seconds)
        try:
            return answer_of(await self._http.request(**self._arguments(effect)))
        except httpx.RequestError as error:
            return self._no_answer(error)

    submit = _returns(start.submit)
    submit_many = _returns(start.submit_many)
    trigger = _returns(start.trigger)
    dry_run = _returns(start.dry_run)
    get = _returns(follow.get)
    steps = _returns(follow.steps)
    step = _returns(follow.step)
    events = _returns(follow.events)
    compare = _returns(follow.compare)
    results = _returns(follow.results)
    state = _returns(follow.state)
    find = _returns(follow.find)
    wait = _returns(follow.wait)
    result = _returns(follow.result)
    watch = _yields(follow.watch)
    poll = _yields(follow.poll)
    iter_executions = _yields(follow.iter_executions)
    control = _returns(operate.control)
    preview = _returns(operate.preview)
    pause = _returns(operate.pause)
    resume = _returns(operate.resume)
    cancel = _returns(operate.cancel)
    retry = _returns(operate.retry)
    fork = _returns(operate.fork)
    replay = _returns(operate.replay)
    control_many = _returns(operate.control_many)
    count = _returns(operate.count)
    job = _returns(operate.job)
    jobs = _returns(operate.jobs)
    cancel_job = _returns(operate.cancel_job)
    holds = _returns(operate.holds)
    hold = _returns(operate.hold)
    release = _returns(operate.release)
    register_workflow = _returns(keep.register_workflow)
    workflows = _returns(keep.workflows)
    get_workflow = _returns(keep.get_workflow)
    enable = _returns(keep.enable)
    disable = _returns(keep.disable)
    costs = _returns(keep.costs)
    stats = _returns(keep.stats)
    queues = _returns(keep.queues)
    workers = _returns(keep.workers)
    tools = _returns(keep.tools)
    mcp_health = _returns(keep.mcp_health)
    health = _returns(keep.health)
    ready = _returns(keep.ready)
