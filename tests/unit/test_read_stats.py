"""Windows of time and their figures: whole, in UTC, and as exact as docs/analytics.md says."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from control_center.read_stats import EPOCH, SIZES, cover, quantile, searchable, whole_days, window_of

BERLIN = ZoneInfo("Europe/Berlin")
NIGHTS = [
    datetime(2026, 3, 29, tzinfo=UTC),
    datetime(2026, 10, 25, tzinfo=UTC),
]  # on which clocks are put forward, and back


CHANCE = random.Random(9)  # noqa: S311


@pytest.mark.parametrize("buckets", [0, 1, 11, 12, 287, 288, 289, 4000])
def test_buckets_cover_a_span_without_gap_and_without_overlap(buckets: int) -> None:
    """Wherever it begins."""
    for _ in range(20):
        here = since = EPOCH + timedelta(seconds=300 * CHANCE.randrange(6_000_000))
        until = since + timedelta(seconds=300 * buckets)
        for size, first, last in cover(since, until):
            assert first == here
            assert first < last
            assert (first - EPOCH) % timedelta(seconds=size) == (last - EPOCH) % timedelta(seconds=size) == timedelta(0)
            here = last
        assert here == until


def test_a_long_window_is_read_in_few_spans() -> None:
    """Days in the middle, smaller ones at its edges only."""
    spans = list(cover(datetime(2026, 1, 1, 0, 5, tzinfo=UTC), datetime(2026, 3, 31, 23, 55, tzinfo=UTC)))
    assert [size for size, _, _ in spans] == [300, 3600, 86_400, 3600, 300]
    assert list(SIZES) == [86_400, 3600, 300]


@pytest.mark.parametrize("night", NIGHTS)
@pytest.mark.parametrize("name", ["24h", "7d", "30d", "90d"])
def test_a_window_is_the_same_in_every_zone(night: datetime, name: str) -> None:
    """And as long as its name says, also across a night on which clocks change."""
    until, now = night + timedelta(hours=5, minutes=35), night + timedelta(hours=5, minutes=42)
    window = window_of(name, until, now)
    assert window == window_of(name, until.astimezone(BERLIN), now.astimezone(BERLIN))
    bars = window.bars()
    assert {later - earlier for earlier, later in pairwise(bars)} == {timedelta(seconds=window.bar)}
    assert all(bar.utcoffset() == timedelta(0) for bar in bars)
    hours = {"24h": night + timedelta(hours=6 - 24), "7d": night + timedelta(hours=6 - 7 * 24)}
    assert window.since == bars[0] == hours.get(name, night - timedelta(days=int(name[:-1]) - 1))
    assert len(bars) == {"24h": 24, "7d": 56, "30d": 30, "90d": 90}[name]


def test_days_begin_where_utc_begins_them() -> None:
    """Half past midnight in Berlin is the day before."""
    window = whole_days(1, datetime(2026, 7, 2, 0, 25, tzinfo=BERLIN), datetime(2026, 7, 2, 0, 30, tzinfo=BERLIN))
    assert window.since == datetime(2026, 7, 1, tzinfo=UTC)


def test_before_anything_is_counted_it_says_when() -> None:
    now = datetime(2026, 7, 1, 10, 2, 30, tzinfo=UTC)
    window = window_of("24h", None, now)
    assert (window.until, window.next_at) == (None, datetime(2026, 7, 1, 10, 6, tzinfo=UTC))


@pytest.mark.parametrize("many", [1, 2, 3, 19, 20, 500])
def test_a_percentile_is_less_than_19_percent_from_the_true_one(many: int) -> None:
    durations = sorted(CHANCE.lognormvariate(7, 2) + 1 for _ in range(many))
    bins: Counter[int] = Counter()
    for one in durations:
        number = 0
        while 2 ** (number / 4) < one:
            number += 1
        bins[number] += 1
    for share in (0.5, 0.95):
        true = durations[max(-(-int(share * 100) * len(durations) // 100) - 1, 0)]
        assert 1 / 1.19 < quantile(bins, share) / true < 1.19  # type: ignore[operator]


def test_without_durations_there_is_no_percentile() -> None:
    assert quantile({}, 0.5) is None


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ("HTTP 503 after <n> ms, request <id>", "HTTP 503 after"),
        ("HTTP 503", "HTTP 503"),
        ("<id>", None),
        ("x" * 300, "x" * 100),
    ],
)
def test_executions_with_such_an_error_can_be_searched_for(shape: str, text: str | None) -> None:
    assert searchable(shape) == text
