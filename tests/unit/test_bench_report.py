"""The speed benchmark's pure parts: statistics, ratios and tables."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.speed.measure import latency_figures, quantile, span_figures
from benchmarks.speed.peer import figures_of
from benchmarks.speed.report import (
    BEGIN,
    EMPTY,
    END,
    GROWN,
    LONG,
    SHORT,
    memory_per_slot,
    put_between_markers,
    ratios,
    record,
    tables,
)

COSTS = {"cpu_s.workers": 2.0, "peak_mb.workers": 99.0, "other_cpu_percent": 3.0}


def case(workload: str, system: str, variant: str = "v", size: int = 500, **figures: float) -> dict[str, Any]:
    return record(workload, system, variant, size, [figures])


def test_a_quantile_lies_between_its_neighbours() -> None:
    """And is the value itself where there is one."""
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([0, 10], 0.99) == pytest.approx(9.9)
    assert quantile([7], 0.99) == 7


def test_latency_is_the_time_between_consecutive_steps() -> None:
    """Across executions nothing is counted."""
    figures = latency_figures([[1.0, 1.002, 1.004], [9.0, 9.001, 9.002]], [0.5, 0.1])
    assert figures["step_ms_mean"] == pytest.approx(1.5)
    assert figures["step_ms_p50"] == pytest.approx(1.5)
    assert figures["first_ms_p50"] == pytest.approx(300)


def test_a_wrong_count_fails_the_run() -> None:
    """Of a peer's answer."""
    answer = {"begin": 1.0, "end": 3.0, "steps": 10, "executions": 2}
    assert figures_of(answer, 2, 5, {"cpu_s.workers": 2.0}) == {
        **span_figures(1.0, 3.0, 10),
        "steps_per_cpu_s": 5.0,
    }
    with pytest.raises(AssertionError, match=r"\(2, 10\).*expected \(2, 12\)"):
        figures_of(answer, 2, 6, {"cpu_s.workers": 2.0})
    with pytest.raises(AssertionError, match="expected 1 x 3"):
        figures_of({"stamps": [[1.0, 2.0]], "submitted": [0.0]}, 1, 3, {})


def test_a_record_keeps_median_and_range() -> None:
    """Of each figure."""
    made = record("W2", "afu9", "v", 500, [{"steps_per_s": rate} for rate in (3.0, 1.0, 2.0)])
    assert made["figures"] == {"steps_per_s": {"median": 2.0, "min": 1.0, "max": 3.0}}


def test_the_best_of_each_system_is_compared() -> None:
    """Rates by the greater, times by the smaller; ours over theirs."""
    found = ratios(
        [
            case("W1", "afu9", step_ms_p50=1.0),
            case("W1", "dbos", "direct", step_ms_p50=3.0),
            case("W1", "dbos", "queue", size=8, step_ms_p50=2.0),
            case("W2", "afu9", "one", steps_per_s=100.0),
            case("W2", "afu9", "two", steps_per_s=150.0),
            case("W2", "dbos", "default", steps_per_s=20.0),
            case("W2", "dbos", "tuned", steps_per_s=50.0),
            case("W3", "afu9", span_s=2.0, steps_per_s=5.0),
            case("W3", "restate", span_s=1.0, steps_per_s=10.0),
        ]
    )
    assert (found["W1_vs_dbos"], found["W2_vs_dbos"]) == (0.333, 3.0)
    assert (found["W3_vs_restate"], found["W3_vs_ideal"]) == (0.5, 0.25)


def test_systems_are_compared_at_the_largest_size_of_both() -> None:
    """Never across sizes."""
    found = ratios(
        [
            case("W2", "afu9", steps_per_s=100.0),
            case("W2", "afu9", size=3000, steps_per_s=200.0),
            case("W2", "restate", steps_per_s=50.0),
            case("W2", "restate", size=3000, steps_per_s=400.0),
            case("W2", "dbos", steps_per_s=50.0),
        ]
    )
    assert (found["W2_vs_restate"], found["W2_vs_dbos"]) == (0.5, 2.0)


def test_growth_is_compared_with_itself() -> None:
    """1 is flat."""
    found = ratios(
        [
            case("W5", "afu9", EMPTY, steps_per_s=200.0),
            case("W5", "afu9", GROWN, steps_per_s=180.0),
            case("W5", "afu9", LONG, step_ms_mean=1.25),
            case("W5", "afu9", SHORT, step_ms_mean=1.0),
        ]
    )
    assert (found["W5_vs_empty"], found["W5_long_vs_short"]) == (0.9, 0.8)


def test_what_was_not_measured_has_no_ratio() -> None:
    """It is named all the same."""
    found = ratios([case("W1", "afu9", step_ms_p50=1.0)])
    assert len(found) == 11
    assert set(found.values()) == {None}


def test_memory_per_slot_is_what_further_threads_cost() -> None:
    """From the two widths of W3."""
    few = case("W3", "afu9", "few", slots=32, **{"peak_mb.workers": 100.0})
    many = case("W3", "afu9", "many", slots=200, **{"peak_mb.workers": 184.0})
    assert memory_per_slot([many, few]) == 0.5
    assert memory_per_slot([few]) is None


def test_the_page_says_what_was_measured_and_what_was_not() -> None:
    """Between the markers; the rest of the page stays."""
    records = [case("W2", "afu9", "2 processes", steps_per_s=1234.5, **COSTS)]
    results = {
        "machine": {"cpu": "a processor", "cores": 2, "memory_gb": 24, "system": "Linux 6"},
        "versions": {"python": "3.11"},
        "settings": {"fsync": "on"},
        "repeats": 5,
        "not_measured": {"restate": "npm is not there"},
        "ratios": ratios(records),
        "memory_per_slot_mb": None,
        "cases": records,
    }
    page = put_between_markers(f"above\n{BEGIN}\nold\n{END}\nbelow\n", tables(results))
    assert page.startswith(f"above\n{BEGIN}\n")
    assert page.endswith(f"{END}\nbelow\n")
    assert "old" not in page
    assert "| afu9 | 2 processes | 500 | 1,234 (1,234–1,234) | workers 2.00 | 99.0 |" in page
    assert "Other processes used 3 % of the processors meanwhile, in the worst run 3 %." in page
    assert "Not measured: restate: npm is not there." in page
    assert "| W2_vs_dbos | not measured |" in page
    with pytest.raises(ValueError, match="lacks"):
        put_between_markers("no markers", "")
