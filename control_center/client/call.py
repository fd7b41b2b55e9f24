"""A request and what comes of it, as values: what is sent, when it is sent again, what the answer means. No I/O.

Invariant: a request that may have been carried out is sent again only if carrying it out twice is the same as once.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from control_center.client.decode import Unreadable, decode
from control_center.client.errors import (
    FROM_PROXIES,
    OF_STATUS,
    ApiError,
    Conflict,
    ConnectionFailed,
    Refused,
    UnexpectedAnswer,
    Unsendable,
)

T = TypeVar("T")
FIRST_PAUSE = 0.1  # seconds; doubled with each try
LONGEST_PAUSE = 5.0
AGAIN = frozenset({429, 502, 503, 504})
HOPELESS = frozenset({"query-too-broad"})  # the same query takes as long the next time


@dataclass(frozen=True, slots=True)
class Call:
    """`repeatable`: it may be sent again although it may have arrived. `patience`: seconds to go on trying, else the
    client's. `deadline`: nothing is tried after it (time.monotonic())."""

    method: str
    path: str
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    patience: float | None = None
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Header names in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def retry_after(self) -> float | None:
        """Seconds; a date instead, as HTTP allows it, counts as not said."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """`sent`: the request may have arrived."""

    reason: str
    sent: bool


Attempts = Generator[Call | Pause, Answer | NoAnswer, Answer]


def attempt(call: Call, patience: float) -> Attempts:
    """Sends the call until it is answered for good. Raises ApiError, ConnectionFailed."""
    end = time.monotonic() + (patience if call.patience is None else call.patience)
    if call.deadline is not None:
        end = min(end, call.deadline)
    tries, doubtful = 0, False
    while True:
        outcome = yield call
        if isinstance(outcome, Answer) and outcome.status not in AGAIN:
            return _accepted(outcome, doubtful)
        doubtful = doubtful or (outcome.sent if isinstance(outcome, NoAnswer) else outcome.status != 429)
        pause = pause_before_retry(call, outcome, tries, random.random())  # noqa: S311  # spreads callers, hides nothing
        if pause is None or time.monotonic() + pause > end:
            raise error_of(outcome)
        tries += 1
        yield Pause(pause)


def pause_before_retry(call: Call, outcome: Answer | NoAnswer, tries: int, luck: float) -> float | None:
    """Seconds until the call may be sent again; None: not at all. `luck`: 0 to 1."""
    own = min(FIRST_PAUSE * 2.0 ** min(tries, 30), LONGEST_PAUSE) * (0.5 + luck / 2)
    if isinstance(outcome, NoAnswer):
        return own if call.repeatable or not outcome.sent else None
    if outcome.status not in AGAIN or not (call.repeatable or outcome.status == 429):
        return None
    error = error_of(outcome)
    if isinstance(error, ApiError) and error.type in HOPELESS:
        return None
    asked = outcome.retry_after
    return own if asked is None else asked + own


def _accepted(answer: Answer, doubtful: bool) -> Answer:
    if answer.status < 300 or answer.status == 304:
        return answer
    error = error_of(answer)
    if isinstance(error, ApiError):
        error.repeated = doubtful
    raise error


def error_of(outcome: Answer | NoAnswer) -> ApiError | ConnectionFailed:
    """What there is to raise for it."""
    if isinstance(outcome, NoAnswer):
        return ConnectionFailed(outcome.reason, sent=outcome.sent)
    found = _problem(outcome)
    if found is None:
        kind = OF_STATUS[outcome.status] if outcome.status in FROM_PROXIES else UnexpectedAnswer
        return kind("", outcome.status, f"the answer is no problem document{_type(outcome)}", (), outcome.retry_after)
    kind = OF_STATUS.get(outcome.status, ApiError)
    errors = found.get("errors", [])
    listed = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    slug = str(found["type"]).rsplit("/", 1)[-1]
    detail = str(found.get("detail", ""))
    if slug == "action-refused" and kind is Conflict:
        refused = Refused(slug, outcome.status, detail, listed, outcome.retry_after)
        allowed = found.get("allowedActions")
        refused.execution_status = str(found.get("executionStatus", ""))
        refused.allowed = tuple(map(str, allowed)) if isinstance(allowed, list) else ()
        return refused
    return kind(slug, outcome.status, detail, listed, outcome.retry_after)


def _problem(answer: Answer) -> dict[str, Any] | None:
    if not answer.headers.get("content-type", "").startswith("application/problem+json"):
        return None
    try:
        found = json.loads(answer.content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("type"), str) else None


def read(kind: type[T], answer: Answer) -> T:
    """The answer as a value. Raises UnexpectedAnswer."""
    try:
        return decode(kind, answer.content)
    except Unreadable as fault:
        raise UnexpectedAnswer("", answer.status, f"{fault}{_type(answer)}; is this an AFU-9 API?") from None


def _type(answer: Answer) -> str:
    kind = answer.headers.get("content-type", "")[:100]
    return f" ({kind})" if kind and "json" not in kind else ""


def body(value: Any) -> bytes:
    """JSON, numbers as they are. Raises Unsendable."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Unsendable(f"this cannot be sent as JSON: {error}") from None


def path(*parts: object, **query: object) -> str:
    """Segments and parameters, quoted; a sequence is repeated, None is left out."""
    wanted = {name: value for name, value in query.items() if value is not None}
    asked = urlencode(wanted, doseq=True)
    return "/" + "/".join(quote(str(part), safe="") for part in parts) + (f"?{asked}" if asked else "")


JSON = {"Content-Type": "application/json"}


def post(address: str, value: Any, *, key: str | None = None, repeatable: bool = True) -> Call:
    """`key`: the Idempotency-Key, which makes it repeatable."""
    headers = JSON | ({"Idempotency-Key": key} if key is not None else {})
    return Call("POST", address, body(value), headers, repeatable)


def without_none(**values: object) -> dict[str, object]:
    """What was given."""
    return {name: value for name, value in values.items() if value is not None}
