"""A line without axes: how something went, at a glance, in a row of a table. The numbers are in its label and beside it."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

WIDTH = 120
HEIGHT = 24
EDGE = 2


def draw_sparkline(values: Sequence[float], marks: Sequence[int], label: str) -> Markup:
    """`marks`: the positions of values that are worth a dot."""
    highest = max([*values, 0]) or 1
    step = (WIDTH - 2 * EDGE) / max(len(values) - 1, 1)
    points = [
        (EDGE + number * step, HEIGHT - EDGE - value / highest * (HEIGHT - 2 * EDGE))
        for number, value in enumerate(values)
    ]
    if len(points) == 1:
        points.append((WIDTH - EDGE, points[0][1]))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = escape("").join(
        Markup('<circle class="failed" cx="{:.1f}" cy="{:.1f}" r="2"/>').format(*points[mark]) for mark in marks
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="{}"><polyline points="{}"/>{}</svg>'
    ).format(WIDTH, HEIGHT, label, line, dots)
