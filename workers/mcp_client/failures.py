"""What a failed exchange means: every signal of a server or the network gets a kind, a failure class and a sentence.

The class decides whether a retry is safe (orchestrator.outcome): not_executed, unknown or definite. Inside the
package a failure travels as the exception Trouble, because the eras repair some of them; McpClient.call turns it into
a value.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from typing import Any

import httpx

from orchestrator.outcome import Failed, FailureClass
from persistence.json_value import decode_json

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION, RATE_LIMITED = -32020, -32021, -32022, -32023

_TEXT_LIMIT = 2048
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_MAX_RETRY_AFTER = 24 * 3600.0
_NOT_EXECUTED_STATUS = frozenset({425, 429})
_UNKNOWN_STATUS = frozenset({408, 500, 502, 503, 504})


class Trouble(Exception):
    """An exchange failed. `status` and `code` are HTTP's and JSON-RPC's, where there were any."""

    def __init__(self, failed: Failed, *, status: int | None = None, code: int | None = None, data: Any = None) -> None:
        super().__init__(failed.message)
        self.failed = failed
        self.status = status
        self.code = code
        self.data = data

    def before_the_tool(self) -> Trouble:
        """The same trouble while preparing a call (handshake, tools/list): the tool cannot have run."""
        if self.failed.failure != "unknown":
            return self
        failed = Failed(self.failed.kind, self.failed.message, "not_executed", self.failed.retry_after)
        return Trouble(failed, status=self.status, code=self.code, data=self.data)


def trouble(kind: str, message: str, failure: FailureClass = "definite", retry_after: float | None = None) -> Trouble:
    return Trouble(Failed(kind, clip(message), failure, retry_after))


def clip(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Text of a server, fit for an error column: bounded, without NUL and lone surrogates, which PostgreSQL refuses."""
    text = _UNSTORABLE.sub("\ufffd", text)
    return text if len(text) <= limit else text[:limit] + f" … ({len(text)} characters)"


def of_network_error(error: httpx.HTTPError, where: str, address: str) -> Trouble:
    """Only a connection that was never made proves that nothing was sent."""
    detail = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return trouble("transport", f"cannot connect to {where} at {address}: {detail}", "not_executed")
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return trouble("protocol_error", f"cannot send the request to {where}: {detail}")
    return trouble("transport", f"the connection to {where} broke before the answer: {detail}", "unknown")


def of_status(
    status: int, headers: Mapping[str, str], body: bytes, where: str, retryable_codes: frozenset[int] = frozenset()
) -> Trouble:
    """An HTTP answer that is not a success. A JSON-RPC error in its body says more than the status, with few
    exceptions.
    """
    wait = retry_after(headers.get("retry-after", ""))
    if status in _NOT_EXECUTED_STATUS or (status == 503 and wait is not None):
        found = trouble("rate_limited", f"{where} answered HTTP {status}: try later", "not_executed", wait)
    elif status not in (401, 403) and (error := _error_object(body)) is not None:
        found = of_rpc_error(error, where, retryable_codes)
        if status in _UNKNOWN_STATUS and found.failed.failure == "definite" and found.code not in _PRE_EXECUTION:
            found.failed = Failed(found.failed.kind, found.failed.message, "unknown")
    else:
        failure: FailureClass = "unknown" if status in _UNKNOWN_STATUS else "definite"
        text = clip(body.decode("utf-8", "replace").strip(), 300)
        found = trouble(
            "http_error", f"{where} answered HTTP {status}{_advice(status)}" + (f": {text}" if text else ""), failure
        )
    found.status = status
    return found


_PRE_EXECUTION = frozenset(
    {
        PARSE_ERROR,
        INVALID_REQUEST,
        METHOD_NOT_FOUND,
        INVALID_PARAMS,
        HEADER_MISMATCH,
        MISSING_CAPABILITY,
        UNSUPPORTED_VERSION,
    }
)


def _advice(status: int) -> str:
    if 300 <= status < 400:
        return " (a redirect; they are not followed: configure the final URL)"
    return {
        401: " (check the server's configured credentials)",
        403: " (check the server's configured credentials)",
        404: " (check the server's configured URL path)",
        405: " (check the server's configured URL path)",
        421: " (the server does not accept this host name)",
    }.get(status, "")


def _error_object(body: bytes) -> dict[str, Any] | None:
    try:
        message = decode_json(body)
    except ValueError:
        return None
    error = message.get("error") if isinstance(message, dict) else None
    return error if isinstance(error, dict) and isinstance(error.get("code"), int) else None


def of_rpc_error(error: Mapping[str, Any], where: str, retryable_codes: frozenset[int] = frozenset()) -> Trouble:
    """A JSON-RPC error object. `retryable_codes`: the server's own codes that its operator declared worth a retry."""
    code = error.get("code")
    code = code if isinstance(code, int) else 0
    data = error.get("data")
    text = error.get("message")
    said = clip(text if isinstance(text, str) else "no message")
    failure: FailureClass = "unknown" if code == INTERNAL_ERROR or code in retryable_codes else "definite"
    kind, wait = "rpc_error", None
    if code == RATE_LIMITED:
        kind, failure, wait = "rate_limited", "not_executed", _wait_in(data)
    elif code == METHOD_NOT_FOUND or (code == INVALID_PARAMS and _names_a_missing_tool(said)):
        kind = "tool_not_found"
    message = f"{where} answered with error {code}: {said}"
    return Trouble(Failed(kind, message, failure, wait), code=code, data=data)


def _names_a_missing_tool(text: str) -> bool:
    low = text.lower()
    return "tool" in low and ("unknown" in low or "not found" in low)


def _wait_in(data: Any) -> float | None:
    value = data.get("retryAfter") if isinstance(data, dict) else None
    return min(float(value), _MAX_RETRY_AFTER) if isinstance(value, int | float) and value >= 0 else None


def retry_after(value: str) -> float | None:
    """The seconds of a Retry-After header (a number or a date, RFC 9110 10.2.3), or None if it says nothing usable."""
    value = value.strip()
    if not value:
        return None
    try:
        seconds = (
            float(value) if value[0].isdigit() else email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        )
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER)
