"""The rule that decides whether a failed call may be made again."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.outcome import Failed, FailureClass
from workers.mcp_client import ServerConfig, retry_is_safe

READ = {"readOnlyHint": True}
SAFE = {"readOnlyHint": False, "idempotentHint": True}
UNSAFE = {"readOnlyHint": False, "idempotentHint": False}
HALF = {"readOnlyHint": False}


@pytest.mark.parametrize(
    ("failure", "annotations", "idempotent", "settings", "safe"),
    [
        ("not_executed", UNSAFE, False, {"unannotated": "unsafe"}, True),
        ("definite", READ, True, {}, False),
        ("unknown", None, None, {}, True),
        ("unknown", {}, None, {}, True),
        ("unknown", HALF, None, {}, True),
        ("unknown", READ, None, {}, True),
        ("unknown", SAFE, None, {}, True),
        ("unknown", UNSAFE, None, {}, False),
        ("unknown", UNSAFE, True, {}, True),
        ("unknown", READ, False, {}, False),
        ("unknown", None, False, {}, False),
        ("unknown", None, None, {"unannotated": "unsafe"}, False),
        ("unknown", HALF, None, {"unannotated": "unsafe"}, False),
        ("unknown", READ, None, {"unannotated": "unsafe"}, True),
        ("unknown", UNSAFE, None, {"trust_annotations": False}, True),
        ("unknown", READ, None, {"trust_annotations": False, "unannotated": "unsafe"}, False),
    ],
)
def test_the_rule(
    failure: FailureClass, annotations: dict[str, Any] | None, idempotent: bool | None, settings: Any, safe: bool
) -> None:
    """The step knows best, then trusted annotations, then the server's setting."""
    config = ServerConfig("s", url="http://localhost/", **settings)
    failed = Failed("timeout", "late", failure)
    assert retry_is_safe(failed, annotations=annotations, config=config, idempotent=idempotent) is safe
