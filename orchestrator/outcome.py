"""What one attempt of a step came to: a value to match on, never an exception.

The failure class says whether the tool may have run, which decides whether a retry is safe:

not_executed  the request never reached the tool (connection refused, HTTP 429): retrying is safe
unknown       it may or may not have run (timeout, connection lost after sending, HTTP 500)
definite      it ran and said no, or the request can never work (isError, unknown tool, bad arguments)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FailureClass = Literal["not_executed", "unknown", "definite"]


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The tool answered. `output` is any JSON value; `meta` is the answer's `_meta` without server identity."""

    output: Any
    meta: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed.

    kind: a stable word for error_kind (tool_error, timeout, transport, not_configured, invalid_params, ...).
    retry_after: seconds the server asked us to wait, if it did.
    """

    kind: str
    message: str
    failure: FailureClass = "definite"
    retry_after: float | None = None
    output: Any = field(default=None)


@dataclass(frozen=True, slots=True)
class Skipped:
    """The step's condition was false: no call was made."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The attempt was stopped on purpose, and its step is handed back uncharged. `failure`: whether the tool may have run."""

    reason: str
    failure: Literal["not_executed", "unknown"] = "unknown"


Outcome = Succeeded | Failed | Skipped | Cancelled
