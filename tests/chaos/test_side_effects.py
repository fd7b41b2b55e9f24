"""Kills in the middle of calls, in short."""

from __future__ import annotations

import pytest

from tests.chaos.ground import open_ground
from tests.chaos.side_effects import Kills, run_side_effects


@pytest.mark.chaos
def test_no_destructive_tool_is_called_twice() -> None:
    """And whatever may be repeated recovers by itself."""
    with open_ground() as ground:
        report = run_side_effects(ground, Kills(25, seed=2, seconds=60))
    print(report.text())
    assert report.good, report.text()
