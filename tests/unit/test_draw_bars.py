"""Bars and sparklines: what is drawn is what was given, and every text is escaped."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from control_center.dashboard.draw.bars import HEIGHT, WIDTH, Bar, draw_bars, draw_share
from control_center.dashboard.draw.sparkline import draw_sparkline

BAD = """<script>alert("1")</script>' & co"""


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314  # our own


def rects(svg: str) -> list[dict[str, str]]:
    return [one.attrib for one in parsed(svg).iter("rect") if one.attrib.get("class") != "hit"]


def test_heights_are_in_proportion() -> None:
    drawn = rects(draw_bars([Bar("a", [("completed", 4), ("failed", 4)]), Bar("b", [("completed", 2)])], "x"))
    assert [(one["class"], float(one["y"]), float(one["height"])) for one in drawn] == [
        ("completed", 50, 50),
        ("failed", 0, 50),
        ("completed", 75, 25),
    ]
    assert float(drawn[2]["x"]) - float(drawn[0]["x"]) == WIDTH


def test_what_is_small_shows_and_what_is_nothing_does_not() -> None:
    drawn = rects(
        draw_bars([Bar("a", [("completed", 1_000_000)]), Bar("b", [("failed", 1)]), Bar("c", [("failed", 0)])], "x")
    )
    assert [one["class"] for one in drawn] == ["completed", "failed"]
    assert float(drawn[1]["height"]) > 1


@pytest.mark.parametrize("count", [0, 1, 90])
def test_any_number_of_bars_is_a_picture(count: int) -> None:
    svg = parsed(draw_bars([Bar(str(n), [("completed", n)]) for n in range(count)], "x"))
    assert svg.attrib["viewBox"] == f"0 0 {max(count, 1) * WIDTH} {HEIGHT}"
    assert len(list(svg.iter("title"))) == count


def test_texts_are_escaped() -> None:
    bars = draw_bars([Bar(BAD, [("completed", 1)])], BAD)
    for svg in (bars, draw_share(0.5, "completed", BAD), draw_sparkline([1, 2], [0], BAD)):
        root = parsed(svg)
        assert root.attrib["aria-label"] == BAD
        assert not list(root.iter("script"))
        assert "style=" not in svg
    (title,) = parsed(bars).iter("title")
    assert title.text == BAD


@pytest.mark.parametrize(("share", "width"), [(-1, 0), (0, 0), (0.25, 25), (1, 100), (7, 100)])
def test_a_share_stays_in_its_line(share: float, width: float) -> None:
    assert float(rects(draw_share(share, "completed", "x"))[1]["width"]) == width


@pytest.mark.parametrize("values", [[], [0], [5], [0, 0, 0], [1, 5, 3]])
def test_a_line_stays_in_its_place(values: list[float]) -> None:
    root = parsed(draw_sparkline(values, [0] if values else [], "x"))
    (line,) = root.iter("polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert len(points) == (0 if not values else max(len(values), 2))
    assert all(0 <= x <= 120 and 0 <= y <= 24 for x, y in points)


def test_the_highest_value_touches_the_top_and_is_marked() -> None:
    root = parsed(draw_sparkline([1, 5, 3], [1], "x"))
    (dot,) = root.iter("circle")
    assert (float(dot.attrib["cx"]), float(dot.attrib["cy"])) == (60, 2)
