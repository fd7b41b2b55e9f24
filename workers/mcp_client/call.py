"""One tool call as every era sends it: the tool, its arguments, and the `_meta` and HTTP headers that go with them."""

from __future__ import annotations

import base64
import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

IDEMPOTENCY_META = "afu9.dev/idempotency-key"


def _version() -> str:
    try:
        return importlib.metadata.version("afu9")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "0"


CLIENT_INFO = {"name": "afu9", "version": _version()}

_PLAIN = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?")
_TRACE_KEYS = ("traceparent", "tracestate", "baggage")


@dataclass(frozen=True, slots=True)
class Call:
    """What the caller asked for, ready to be put into a request."""

    tool: str
    arguments: Mapping[str, Any]
    meta: Mapping[str, Any]
    headers: Mapping[str, str]


def new_call(tool: str, arguments: Mapping[str, Any], idempotency_key: str, meta: Mapping[str, Any] | None) -> Call:
    """The idempotency key and the trace context travel twice: in `_meta`, and as HTTP headers for proxies and
    gateways.
    """
    carried = dict(meta or {})
    headers = {key: header_value(value) for key in _TRACE_KEYS if isinstance(value := carried.get(key), str) and value}
    if idempotency_key:
        carried[IDEMPOTENCY_META] = idempotency_key
        headers["idempotency-key"] = header_value(idempotency_key)
    return Call(tool, arguments, carried, headers)


def header_value(text: str) -> str:
    """The text itself if it is plain printable ASCII, else the protocol's base64 form: no value can add a header."""
    if _PLAIN.fullmatch(text) and not (text.startswith("=?base64?") and text.endswith("?=")):
        return text
    return f"=?base64?{base64.b64encode(text.encode('utf-8', 'replace')).decode()}?="
