"""Retry delays: how they grow, and that nothing makes them grow past the cap."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.backoff import delay_seconds
from orchestrator.definition import Retry


def delays(count: int = 5, **settings: Any) -> list[float]:
    retry = Retry.model_validate(settings)
    return [delay_seconds(retry, number) for number in range(count)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1, 2, 4, 8, 16]),
        ({"backoff": "fixed"}, [1, 1, 1, 1, 1]),
        ({"backoff": "linear"}, [1, 2, 3, 4, 5]),
        ({"backoff": "linear", "backoffMultiplier": 3}, [1, 3, 5, 7, 9]),
        ({"backoff": "exponential", "backoffMultiplier": 3}, [1, 3, 9, 27, 60]),
        ({"backoff": "linear", "backoffMultiplier": 1}, [1, 1, 1, 1, 1]),
        ({"backoffMultiplier": 1}, [1, 1, 1, 1, 1]),
        ({"backoffMultiplier": 1.5, "initialDelayMs": 100}, [0.1, 0.15, 0.225, 0.3375, 0.50625]),
        ({"initialDelayMs": 2000, "maxDelayMs": 5000}, [2, 4, 5, 5, 5]),
        ({"initialDelayMs": 120_000}, [120, 120, 120, 120, 120]),
    ],
)
def test_delays_grow_as_the_strategy_says(settings: dict[str, Any], expected: list[float]) -> None:
    """The first delay is initialDelayMs, the second multiplier times that, and none exceeds the cap."""
    assert delays(**settings) == pytest.approx(expected)


@pytest.mark.parametrize("strategy", ["linear", "exponential"])
def test_huge_growth_ends_at_the_cap(strategy: str) -> None:
    """A multiplier whose powers no float can hold, and a hundred retries, give the cap."""
    retry = Retry.model_validate({"backoff": strategy, "backoffMultiplier": 1e300})
    assert delay_seconds(retry, 1) == 60
    assert delay_seconds(retry, 100) == 60


def test_jitter_shortens() -> None:
    """It takes its share off, so the cap holds for every draw."""
    retry = Retry.model_validate({"initialDelayMs": 60_000})
    assert delay_seconds(retry, 3, jitter=0.25) == 45
    assert delay_seconds(retry, 3, jitter=1.0) == 0
