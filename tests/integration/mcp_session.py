"""Servers driven by the official SDK's client, from tests that are not asynchronous."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client
from mcp.client.stdio import StdioServerParameters


class ToolFailed(Exception):
    """The server answered isError; the message is what it said."""


@dataclass(frozen=True)
class Session:
    """A connection to one server; `always` are arguments of every call."""

    portal: BlockingPortal
    client: Client
    always: Mapping[str, Any]

    def call(self, tool: str, /, **arguments: Any) -> Any:
        """Calls a tool and returns its structured content, or its text if it has none."""
        return self.soon(tool, **arguments).result()

    def soon(self, tool: str, /, **arguments: Any) -> Future[Any]:
        """The same without waiting for the answer."""
        return self.portal.start_task_soon(partial(self._call, tool, arguments))

    def refused(self, tool: str, /, **arguments: Any) -> str:
        """What the tool said when it failed, as it must."""
        with pytest.raises(ToolFailed) as failure:
            self.call(tool, **arguments)
        return str(failure.value)

    def tools(self) -> dict[str, Any]:
        """Name to description of every tool."""
        return {tool.name: tool for tool in self.portal.call(self.client.list_tools).tools}

    def given(self, **always: Any) -> Session:
        """The same connection with arguments for every call."""
        return Session(self.portal, self.client, always)

    async def _call(self, tool: str, arguments: dict[str, Any]) -> Any:
        meta = arguments.pop("meta", None)
        answer = await self.client.call_tool(tool, {**self.always, **arguments}, meta=meta)
        text = answer.content[0].text  # type: ignore[union-attr]
        if answer.is_error:
            raise ToolFailed(text)
        if answer.structured_content is None:
            return text
        assert json.loads(text) == answer.structured_content
        return answer.structured_content


@contextmanager
def sessions(**targets: StdioServerParameters | str) -> Iterator[dict[str, Session]]:
    """A session per name; every server that was started here ends with the block, also when a test fails."""

    @asynccontextmanager
    async def connected(target: StdioServerParameters | str) -> AsyncIterator[Client]:
        async with Client(target, read_timeout_seconds=20) as client:
            yield client

    with start_blocking_portal() as portal, ExitStack() as stack:
        managers = {name: portal.wrap_async_context_manager(connected(target)) for name, target in targets.items()}
        yield {name: Session(portal, stack.enter_context(manager), {}) for name, manager in managers.items()}


def python(*arguments: str | Path, **env: str) -> StdioServerParameters:
    """A server that is a Python program."""
    return StdioServerParameters(command=sys.executable, args=[str(argument) for argument in arguments], env=env)


@contextmanager
def listening(*arguments: str | Path) -> Iterator[int]:
    """The port that a Python program printed; the program ends with the block."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()
