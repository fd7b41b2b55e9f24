"""Bars on one line of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from control_center.dashboard.draw.timeline import Span, draw_axis, draw_bar, make_scale

BEGIN = datetime(2026, 3, 29, 0, 59, 58, tzinfo=UTC)


def ran(start: float, end: float | None, kind: str = "run", told: str = "ran") -> Span:
    return Span(kind, BEGIN + timedelta(seconds=start), None if end is None else BEGIN + timedelta(seconds=end), told)


def test_the_right_edge_is_the_end() -> None:
    scale = make_scale([ran(0, 1), ran(1, 4)], BEGIN, live=False)
    assert scale.place(BEGIN) == 0
    assert round(scale.place(BEGIN + timedelta(seconds=1)), 3) == 25
    assert scale.place(BEGIN + timedelta(seconds=4)) == 100


def test_idle_time_is_folded_and_its_length_told() -> None:
    scale = make_scale([ran(0, 1), ran(7201, 7202)], BEGIN, live=False)
    assert len(scale.folds) == 1
    assert "// 2 h //" in draw_axis(scale)
    assert round(scale.place(BEGIN + timedelta(seconds=1)), 1) == 48.5
    assert round(scale.place(BEGIN + timedelta(seconds=7201)), 1) == 51.5


def test_what_is_told_is_text() -> None:
    spans = [ran(0, 1, told="<script>alert('1')</script>")]
    drawn = draw_bar(spans, make_scale(spans, BEGIN, live=False))
    assert "<script>" not in drawn
    assert "&lt;script&gt;" in drawn


def test_what_runs_leaves_room_and_grows() -> None:
    now = BEGIN + timedelta(seconds=10)
    spans = [ran(0, None)]
    scale = make_scale(spans, now, live=True)
    assert scale.place(now) < 100
    assert "data-grows" in draw_bar(spans, scale)
    assert "data-grows" not in draw_bar([ran(0, 1)], scale)


def test_attempts_and_pauses_are_told_apart() -> None:
    spans = [ran(0, 1, "failed"), ran(1, 3, "backoff"), ran(3, 4)]
    drawn = draw_bar(spans, make_scale(spans, BEGIN, live=False))
    assert drawn.count('class="backoff"') == 1
    assert ">✕<" in drawn


def test_a_bar_too_short_to_see_is_drawn_inside() -> None:
    scale = make_scale([ran(0, 1000), ran(1000, 1000)], BEGIN, live=False)
    drawn = draw_bar([ran(1000, 1000)], scale)
    assert 'x="99.600%" width="0.400%"' in drawn


def test_nothing_is_a_drawing_too() -> None:
    scale = make_scale([], BEGIN, live=False)
    assert "it has not begun" in draw_bar([], scale)
