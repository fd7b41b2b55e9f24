"""What goes with a call: the trace context."""

from __future__ import annotations

import re
from uuid import UUID

from workers.mcp_client import new_traceparent


def test_a_trace_is_the_execution() -> None:
    """All attempts of an execution share the trace, each has its own span."""
    execution = UUID("0192d3b4-0000-7000-8000-000000000001")
    first, second = new_traceparent(execution), new_traceparent(execution)
    assert re.fullmatch(r"00-0192d3b4000070008000000000000001-[0-9a-f]{16}-01", first)
    assert first != second
