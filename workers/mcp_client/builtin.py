"""The server `builtin`: tools inside this process, for trying things out and for shaping data between steps.

To the client it is a server like any other, a peer whose era is `in-process`, only without a thread, a connection or
JSON in between. No tool changes anything, so each may be called any number of times. What they take and give is in
orchestrator/builtin_tools.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from orchestrator.builtin_tools import BUILTIN, TOOLS, Fail, Sleep, Transform
from orchestrator.expressions import compile_expression
from orchestrator.outcome import FailureClass
from orchestrator.paths import EvaluationError
from orchestrator.tokens import Malformed
from workers.mcp_client.budget import Budget, DeadlinePassed
from workers.mcp_client.call import Call
from workers.mcp_client.channel import timed_out
from workers.mcp_client.failures import clip, trouble
from workers.mcp_client.servers import ServerConfig

BUILTIN_SERVER: Final = ServerConfig(BUILTIN, timeout=120.0)
NAME_TAKEN: Final = ("this is the name of the server that every installation has", "choose another name")
_WHERE = BUILTIN_SERVER.where
_CLASSES: Mapping[str, FailureClass] = {"rate_limited": "not_executed", "transport": "unknown"}  # else definite

Arguments = TypeVar("Arguments", bound=BaseModel)


def waits(server: str, tool: str) -> bool:
    """Whether a call leaves its thread idle meanwhile, as every call does but those of tools that only compute."""
    return server != BUILTIN or tool == "sleep"


class BuiltinPeer:
    """The server and its era in one."""

    name = "in-process"

    def use(self, budget: Budget) -> AbstractContextManager[BuiltinPeer]:
        return nullcontext(self)

    def call(self, call: Call, budget: Budget) -> dict[str, Any]:
        budget.check()
        tool = _RUN.get(call.tool)
        if tool is None:
            has = ", ".join(TOOLS)
            raise trouble("tool_not_found", f"{_WHERE} has no tool {clip(call.tool, 200)!r}; it has: {has}")
        return {"structuredContent": tool(call.arguments, budget)}

    def list_tools(self, budget: Budget) -> list[dict[str, Any]]:
        return [dict(tool) for tool in TOOLS.values()]

    def begin_close(self) -> None:
        """Nothing to end."""

    def end_close(self) -> None:
        """Nothing to end."""


def _echo(arguments: Mapping[str, Any], _: Budget) -> Any:
    return dict(arguments)


def _sleep(arguments: Mapping[str, Any], budget: Budget) -> Any:
    asked = _checked(Sleep, arguments)
    try:
        budget.sleep(asked.seconds)
    except DeadlinePassed:
        raise timed_out(budget, _WHERE) from None
    return arguments["value"] if "value" in arguments else {"slept": arguments["seconds"]}


def _fail(arguments: Mapping[str, Any], _: Budget) -> Any:
    asked = _checked(Fail, arguments)
    raise trouble(asked.kind, asked.message, _CLASSES.get(asked.kind, "definite"))


def _transform(arguments: Mapping[str, Any], _: Budget) -> Any:
    asked = _checked(Transform, arguments)
    try:
        expression = compile_expression(asked.expression)
        expression.check()
        return {"result": expression.evaluate(asked.with_)}
    except Malformed as error:
        raise trouble("invalid_params", f"{_WHERE}: {error.reason}, at character {error.position + 1}") from None
    except EvaluationError as error:
        raise trouble("invalid_params", f"{_WHERE}: {error}") from None


_RUN: Mapping[str, Callable[[Mapping[str, Any], Budget], Any]] = {
    "echo": _echo,
    "fail": _fail,
    "sleep": _sleep,
    "transform": _transform,
}


def _checked(model: type[Arguments], arguments: Mapping[str, Any]) -> Arguments:
    try:
        return model.model_validate(dict(arguments))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_url=False)]
        raise trouble("invalid_params", f"{_WHERE} does not take these arguments: {'; '.join(faults)}") from None
