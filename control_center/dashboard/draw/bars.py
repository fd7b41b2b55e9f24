"""Stacked bars over time. The picture has no text but its bars' titles: it is stretched to its place, and words beside it are
HTML. Whoever cannot see it reads the table beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

HEIGHT = 100
WIDTH = 10  # of a bar, the gap included
GAP = 1.5


@dataclass(frozen=True, slots=True)
class Bar:
    """`title` is told when it is pointed at; `parts`: (class of the stylesheet, amount), from the bottom up."""

    title: str
    parts: Sequence[tuple[str, float]]

    @property
    def whole(self) -> float:
        return sum(amount for _, amount in self.parts)


def draw_bars(bars: Sequence[Bar], label: str) -> Markup:
    """The highest bar fills the height; one that is not zero shows, however small it is beside the others."""
    highest = max((bar.whole for bar in bars), default=0) or 1
    drawn = escape("").join(_bar(bar, number, highest) for number, bar in enumerate(bars))
    return Markup(
        '<svg class="bars" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(max(len(bars), 1) * WIDTH, HEIGHT, label, drawn)


def _bar(bar: Bar, number: int, highest: float) -> Markup:
    left, top = number * WIDTH, float(HEIGHT)
    parts = escape("")
    for kind, amount in bar.parts:
        if amount <= 0:
            continue
        height = max(amount / highest * HEIGHT, 1.5)
        top -= height
        parts += Markup('<rect class="{}" x="{}" y="{:.2f}" width="{}" height="{:.2f}"/>').format(
            kind, left + GAP / 2, max(top, 0), WIDTH - GAP, height
        )
    hit = Markup('<rect class="hit" x="{}" y="0" width="{}" height="{}"/>').format(left, WIDTH, HEIGHT)
    return Markup("<g><title>{}</title>{}{}</g>").format(bar.title, parts, hit)


def draw_share(share: float, kind: str, label: str) -> Markup:
    """A part of a whole, 0 to 1, as one line that is filled so far."""
    width = min(max(share, 0), 1) * 100
    return Markup(
        '<svg class="share" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="ground" width="100" height="6"/><rect class="{}" width="{:.2f}" height="6"/></svg>'
    ).format(label, kind, width)
