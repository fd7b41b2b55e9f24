"""The steps of a killed worker run again within two lease periods."""

from __future__ import annotations

import pytest

from tests.chaos.ground import open_ground
from tests.chaos.lost_worker import Loss, run_lost_worker


@pytest.mark.chaos
def test_the_steps_of_a_killed_worker_run_again_within_two_leases() -> None:
    """60 long steps on two workers."""
    with open_ground() as ground:
        report = run_lost_worker(ground, Loss(60, threads=64, lease_seconds=2, call_seconds=6))
    print(report.text())
    assert report.good, report.text()
