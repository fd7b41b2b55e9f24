"""What servers may write into Retry-After, and which header values are sent as they are."""

from __future__ import annotations

import email.utils
import time

import pytest

from workers.mcp_client.call import header_value
from workers.mcp_client.failures import clip, of_rpc_error, retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0", 0), ("1.5", 1.5), ("", None), ("soon", None), ("-3", None), ("1e400", 86400), ("9" * 400, 86400),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)  # fmt: skip
def test_retry_after(text: str, seconds: float | None) -> None:
    """Seconds or a date; nonsense is nothing, a past date is now, and no wait is longer than a day."""
    assert retry_after(text) == seconds


def test_retry_after_a_date() -> None:
    """A date means the time until then."""
    found = retry_after(email.utils.formatdate(time.time() + 60, usegmt=True))
    assert found == pytest.approx(60, abs=2)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("plain text", "plain text"),
        ("", ""),
        ("ü", "=?base64?w7w=?="),
        ("a\r\nb", "=?base64?YQ0KYg==?="),
        (" a", "=?base64?IGE=?="),
        ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
    ],
)
def test_header_values(text: str, sent: str) -> None:
    """What is not plain printable ASCII, or looks encoded, is encoded: no value can add a header."""
    assert header_value(text) == sent


def test_an_operator_may_declare_codes_worth_a_retry() -> None:
    """A listed code becomes an unknown outcome; others of its range stay definite."""
    error = {"code": -32001, "message": "busy"}
    assert of_rpc_error(error, "server s").failed.failure == "definite"
    assert of_rpc_error(error, "server s", frozenset([-32001])).failed.failure == "unknown"


@pytest.mark.parametrize("error", [{}, {"code": "x", "message": 5}, {"code": None}])
def test_a_malformed_error_is_still_an_error(error: dict[str, object]) -> None:
    """Nothing a server writes into an error makes us crash."""
    assert of_rpc_error(error, "server s").failed.failure == "definite"


def test_clip_bounds_and_cleans() -> None:
    """Bounded, and without what PostgreSQL refuses."""
    assert clip("a\0b\ud800") == "a\ufffdb\ufffd"
    assert len(clip("x" * 10_000)) < 2100
