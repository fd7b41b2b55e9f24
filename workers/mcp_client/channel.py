"""What the eras of the protocol need from a transport: ask one question, get its answer or a Trouble.

Two transports keep this contract: HTTP (http_channel.py) and a child process (stdio_channel.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestrator import trace
from orchestrator.trace_names import JSONRPC_ID
from persistence.json_value import InvalidJson, decode_json, encode_json
from workers.mcp_client.budget import Budget
from workers.mcp_client.failures import Trouble, of_rpc_error, trouble
from workers.mcp_client.servers import NOTHING, ServerConfig

_ids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Reply:
    """A JSON-RPC result (an object, but for servers in no era a result may be any value), and its HTTP headers."""

    result: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class Channel(Protocol):
    """One configured server as a place to send messages to. Raises Trouble, DeadlinePassed or CallCancelled."""

    config: ServerConfig

    def request(
        self,
        method: str,
        params: Mapping[str, Any],
        budget: Budget,
        *,
        headers: Mapping[str, str] = NOTHING,
        session: bool = False,
    ) -> Reply:
        """Send and wait for the answer. `session`: the server keeps state for us, so tell it when we give up, resume a
        broken stream and answer its own requests."""
        ...

    def notify(
        self, method: str, params: Mapping[str, Any], budget: Budget, *, headers: Mapping[str, str] = NOTHING
    ) -> None: ...


def new_request(method: str, params: Mapping[str, Any], config: ServerConfig) -> tuple[int, bytes]:
    """A request with an id that this process has never used. Raises Trouble if the arguments cannot be sent."""
    number = next(_ids)
    if trace.on is not None and method == "tools/call":
        trace.on.note({JSONRPC_ID: str(number)})
    try:
        body = encode_json({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()
    except InvalidJson as error:
        raise trouble("invalid_params", str(error)) from error
    if len(body) > config.max_request_bytes:
        limit = config.max_request_bytes
        raise trouble(
            "invalid_params", f"the request is {len(body)} bytes, {config.where} accepts {limit} (max_request_bytes)"
        )
    return number, body


def notification(method: str, params: Mapping[str, Any]) -> bytes:
    return encode_json({"jsonrpc": "2.0", "method": method, "params": params}).encode()


def parse(raw: bytes, where: str) -> Any:
    """The JSON value in what a server sent: strict, so NaN, Infinity and invalid UTF-8 are refused."""
    try:
        return decode_json(raw)
    except ValueError as error:
        raise trouble("invalid_response", f"{where} sent an answer that is not valid JSON: {error}") from error


def answers(message: Any, number: int) -> bool:
    """Whether the message is the response to request `number`; an error without id can only be meant for it."""
    if not isinstance(message, dict) or "method" in message:
        return False
    given = message.get("id")
    return given == number or given == str(number) or (given is None and "error" in message)


def parts_of(value: Any) -> list[Any]:
    """The messages in a body: one, or those of a batch (removed from the protocol, still seen)."""
    return value if isinstance(value, list) else [value]


def result_of(message: dict[str, Any], config: ServerConfig) -> Any:
    """The result of a response. Raises Trouble for an error or for neither."""
    error = message.get("error")
    if isinstance(error, dict):
        raise of_rpc_error(error, config.where, config.retryable_rpc_codes)
    if "result" not in message:
        raise trouble("invalid_response", f"{config.where} answered with neither a result nor an error")
    return message["result"]


def timed_out(budget: Budget, where: str) -> Trouble:
    """The deadline passed after sending: the server may have done the work all the same."""
    return trouble("timeout", f"{where} did not answer within {budget.seconds:.3g} s", "unknown")
