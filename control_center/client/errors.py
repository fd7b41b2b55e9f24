"""The client's one error tree.

ClientError
├── ConnectionFailed       nobody answered; `sent` tells whether the request may have arrived
├── Unsendable             what was to be sent is no JSON, or the address or the key cannot be used (a ValueError too)
├── ExecutionTimeout       the execution has not ended in time; it goes on
├── ExecutionFailed        it ended, and not well: failed or cancelled
└── ApiError               an answer that is an error: `type`, `status`, `detail`, `errors`
    ├── InvalidRequest     400, 413, 415, 422
    ├── Unauthenticated    401
    ├── Forbidden          403
    ├── NotFound           404, 410
    ├── Conflict           409
    │   └── Refused        a control that the execution does not take: `execution_status`, `allowed`
    ├── RateLimited        429
    ├── Unavailable        502, 503, 504
    └── UnexpectedAnswer   not from an AFU-9 API, or not one this client can read

Match on `type`, the last part of the problem's URI (`workflow-disabled`), never on the words. No message holds the key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ClientError(Exception):
    """Anything this client raises on purpose."""


class ConnectionFailed(ClientError):
    """Nobody answered. `sent`: the request may have arrived, and have been carried out."""

    def __init__(self, message: str, *, sent: bool):
        self.sent = sent
        super().__init__(message)


class Unsendable(ClientError, ValueError):
    """A request that cannot be made of what was given."""


class ExecutionTimeout(ClientError):
    """The execution has not ended within `seconds`; it goes on, and waiting again is possible. `status` was its last."""

    def __init__(self, execution_id: str, status: str, seconds: float):
        self.execution_id = execution_id
        self.status = status
        self.seconds = seconds
        super().__init__(f"execution {execution_id} is still {status} after {seconds:g} s")


class ExecutionFailed(ClientError):
    """`status`: failed or cancelled. `step`, `kind`, `error`: the failing step's name, the class of its failure, what it
    said; without a failing step `error` is the execution's."""

    def __init__(self, execution_id: str, status: str, step: str | None, kind: str | None, error: str | None):
        self.execution_id = execution_id
        self.status = status
        self.step = step
        self.kind = kind
        self.error = error
        place = f" at step {step}" if step else ""
        super().__init__(f"execution {execution_id} {status}{place}" + (f": {error}" if error else ""))


class ApiError(ClientError):
    """`errors`: [{"pointer", "detail", …}], pointers into the body (RFC 6901). `type` is empty for an answer that is no
    problem document. `retry_after`: seconds, if the server said so."""

    def __init__(
        self,
        type: str,
        status: int,
        detail: str,
        errors: Sequence[Mapping[str, Any]] = (),
        retry_after: float | None = None,
    ):
        self.type = type
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.repeated = False  # an earlier try of the same call may have been carried out
        super().__init__(f"{status} {type}: {detail}" if type else f"{status}: {detail}")


class InvalidRequest(ApiError):
    """The request has faults: `errors` names them."""


class Unauthenticated(ApiError):
    """The key is missing, wrong, expired or revoked."""


class Forbidden(ApiError):
    """The key's role does not allow this."""


class NotFound(ApiError):
    """No execution, step or workflow by that name."""


class Conflict(ApiError):
    """Its state does not allow this."""


class Refused(Conflict):
    """The execution does not take the control as it stands; nothing was changed. `execution_status`: how it stands.
    `allowed`: what it takes instead."""

    execution_status: str = ""
    allowed: tuple[str, ...] = ()


class RateLimited(ApiError):
    """Too many requests, also after waiting as long as the server asked for, or as patience allowed."""


class Unavailable(ApiError):
    """The API, or the database behind it, cannot serve now."""


class UnexpectedAnswer(ApiError):
    """Whoever answered is no AFU-9 API, or one whose answers this client cannot read."""


OF_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
FROM_PROXIES = frozenset({401, 403, 413, 429, 502, 503, 504})
"""What something in between may answer in its own words, and means the same."""
