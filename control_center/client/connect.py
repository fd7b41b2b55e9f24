"""Where the API is and who asks: what Client and AsyncClient share of httpx.

Invariant: the key stands in one header of each request and nowhere else, in no message and no repr.
"""

from __future__ import annotations

import os
import time
from typing import Any
from urllib.parse import urlsplit

import httpx

from control_center.client.call import Answer, Call, NoAnswer
from control_center.client.errors import Unsendable

TIMEOUT = 30.0
PATIENCE = 10.0
SHORTEST_TIMEOUT = 3.0  # also of a request whose deadline is near
LIMITS = httpx.Limits(keepalive_expiry=2.0)  # servers close idle connections after 5 s; a request must not meet that
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)


class Connection:
    """Where the API is, who asks, and how long an answer may take."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        patience: float = PATIENCE,
    ):
        """base_url: else AFU9_URL, else http://127.0.0.1:3000; it may have a path, where a proxy adds one. api_key: else
        AFU9_API_KEY, else none. timeout: seconds that one answer may take. patience: seconds during which what can safely
        be repeated is (no connection, 429, 502, 503, 504); 0: never. Raises Unsendable."""
        self.base_url = _address(base_url or os.environ.get("AFU9_URL") or "http://127.0.0.1:3000")
        self._timeout = timeout
        self._patience = patience
        key = _key(os.environ.get("AFU9_API_KEY", "") if api_key is None else api_key)
        self._headers = {"User-Agent": "afu9-client", "Accept": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._open()

    def _open(self) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def _arguments(self, call: Call) -> dict[str, Any]:
        """httpx's arguments."""
        left = self._timeout if call.deadline is None else min(self._timeout, call.deadline - time.monotonic())
        return {
            "method": call.method,
            "url": self.base_url + call.path,
            "content": call.content,
            "headers": self._headers | dict(call.headers),
            "timeout": max(left, min(SHORTEST_TIMEOUT, self._timeout)),
        }

    def _no_answer(self, error: httpx.RequestError) -> NoAnswer:
        words = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "does not answer"
        told = str(error) or type(error).__name__
        return NoAnswer(f"{self.base_url} {words}: {told}", sent=not isinstance(error, NEVER_SENT))


def answer_of(response: httpx.Response) -> Answer:
    return Answer(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content
    )


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        known = False
    if not known or parts.query or parts.fragment:
        raise Unsendable("the API's address is not one: http://host:port, or https://host/path")
    if "@" in parts.netloc:
        raise Unsendable("the API's address holds a name or a password: give a key instead, in AFU9_API_KEY")
    return url.rstrip("/")


def _key(given: str) -> str:
    """Without repeating it."""
    key = given.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Unsendable("the API key has characters that no key has")
    return key
