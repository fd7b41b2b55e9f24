"""A workflow's runs as a grid: a column per run with its duration as a bar above, a row per step. Pure: data in, SVG out.

Every cell is a link to that step of that run, and says what it is in its title; its glyph tells as much as its colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from control_center.timeline import REUSED, glyph

SIZE = 24  # pixels of a cell: as large as something to be hit must be
TALLEST = 40  # of a bar
GAP = 2
SIGNS = {"retried": "↻", "reused": REUSED, "unknown": "?"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A step of a run, or a run. `sign`: a status, or one of SIGNS; `told`: what it is, in words."""

    sign: str
    href: str
    told: str


@dataclass(frozen=True, slots=True)
class Column:
    """A run and its steps, one per row; None where it has no such step. `duration_ms`: None until it ended."""

    run: Cell
    duration_ms: int | None
    cells: Sequence[Cell | None]


def draw_grid(columns: Sequence[Column], label: str) -> Markup:
    """From the left to the right as they are given."""
    rows = max((len(column.cells) for column in columns), default=0)
    width, height = SIZE * max(len(columns), 1), TALLEST + GAP + SIZE * rows
    longest = max((column.duration_ms or 0 for column in columns), default=0)
    drawn = escape("").join(_column(place, column, longest) for place, column in enumerate(columns))
    return Markup(
        '<svg class="grid" role="group" aria-label="{}" width="{}" height="{}" viewBox="0 0 {} {}">{}</svg>'
    ).format(label, width, height, width, height, drawn)


def _column(place: int, column: Column, longest: int) -> Markup:
    left = place * SIZE
    share = 0 if not longest else (column.duration_ms or 0) / longest
    tall = max(round(share * TALLEST), GAP)
    bar = Markup(
        '<rect x="{}" y="0" width="{}" height="{}" class="hit"/><rect x="{}" y="{}" width="{}" height="{}"/>'
    ).format(left, SIZE, TALLEST, left + GAP, TALLEST - tall, SIZE - 2 * GAP, tall)
    cells = escape("").join(
        _link(cell, "cell", _square(left, TALLEST + GAP + row * SIZE, cell.sign))
        for row, cell in enumerate(column.cells)
        if cell is not None
    )
    return _link(column.run, "bar", bar) + cells


def _square(left: int, top: int, sign: str) -> Markup:
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="4"/><text x="{}" y="{}">{}</text>').format(
        left + 1, top + 1, SIZE - 2, SIZE - 2, left + SIZE // 2, top + SIZE // 2 + 5, SIGNS.get(sign) or glyph(sign)
    )


def _link(cell: Cell, kind: str, drawn: Markup) -> Markup:
    return Markup('<a href="{}" class="{} {}"><title>{}</title>{}</a>').format(
        cell.href, kind, cell.sign, cell.told, drawn
    )
