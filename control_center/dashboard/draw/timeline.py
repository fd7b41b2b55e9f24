"""Bars of an execution's steps on one line of time. Pure: spans in, SVG out.

Places are percentages, so that a drawing is as wide as there is room and its right edge is always reached. Long times in
which nothing ran are folded to one narrow mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup, escape

from control_center.dashboard.words import span

MARK = 3.0  # per cent of the width that a folded time takes
LONG = 0.15  # of all the time that something ran: an idle time beyond is folded
LEAST = 0.4  # per cent: a bar that is narrower could not be seen
FOLD = Markup('<text class="fold" x="{:.2f}%" y="26" text-anchor="middle">// {} //</text>')


@dataclass(frozen=True, slots=True)
class Span:
    """kind: wait, run, failed, lost, released, backoff or replaced. An `end` of None is now."""

    kind: str
    start: datetime
    end: datetime | None
    told: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Where moments are: pieces (from, to, left, right), seconds since the epoch and per cent; `folds`, those in which
    nothing ran; `line`, both in their order; `marks`, the folds as each bar shows them."""

    pieces: tuple[tuple[float, float, float, float], ...]
    folds: tuple[tuple[float, float, float, float], ...]
    line: tuple[tuple[float, float, float, float], ...]
    marks: str
    now: float

    def place(self, moment: datetime) -> float:
        at = moment.timestamp()
        for start, end, left, right in self.line:
            if at <= end:
                share = (max(at, start) - start) / (end - start) if end > start else 0.0
                return left + share * (right - left)
        return 100.0

    @property
    def rate(self) -> float:
        """Per cent per second at the right edge."""
        start, end, left, right = self.pieces[-1]
        return (right - left) / max(end - start, 0.001)


def make_scale(spans: Sequence[Span], now: datetime, *, live: bool) -> Scale:
    """Of all spans. `live`: room is left at the right for what runs to grow into."""
    busy = sorted((one.start.timestamp(), max((one.end or now).timestamp(), one.start.timestamp())) for one in spans)
    merged: list[list[float]] = []
    for start, end in busy:
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    if not merged:
        merged = [[now.timestamp(), now.timestamp()]]
    ran = sum(end - start for start, end in merged)
    if live:
        merged[-1][1] += max(ran * 0.1, 5.0)
    merged[-1][1] = max(merged[-1][1], merged[-1][0] + 0.001)
    fold = max(LONG * ran, 1.0)
    groups = [merged[0]]
    for start, end in merged[1:]:
        if start - groups[-1][1] > fold:
            groups.append([start, end])
        else:
            groups[-1][1] = end
    room = MARK if len(groups) < 15 else 45 / (len(groups) - 1)
    share = (100 - room * (len(groups) - 1)) / sum(end - start for start, end in groups)
    pieces, folds, left = [], [], 0.0
    for index, (start, end) in enumerate(groups):
        if index:
            folds.append((groups[index - 1][1], start, left, left + room))
            left += room
        right = left + (end - start) * share
        pieces.append((start, end, left, right))
        left = right
    marks = "".join(_mark(left, right) for _, _, left, right in folds)
    return Scale(tuple(pieces), tuple(folds), tuple(sorted(pieces + folds)), marks, now.timestamp())


def draw_axis(scale: Scale) -> Markup:
    """Times since the begin, and how long each folded time is."""
    begin = scale.pieces[0][0]
    parts = []
    for start, end, left, right in scale.pieces:
        for share in (0.0, 0.5) if right - left > 30 else (0.0,):
            if right - left > 12:
                at = left + share * (right - left)
                label = span((start - begin + share * (end - start)) * 1000)
                parts.append(Markup('<text x="{:.2f}%" y="12">{}</text>').format(at, label))
    for start, end, left, right in scale.folds:
        middle = (left + right) / 2
        parts.append(FOLD.format(middle, span((end - start) * 1000)))
    total = span((scale.pieces[-1][1] - begin) * 1000)
    parts.append(Markup('<text x="100%" y="12" text-anchor="end">{}</text>').format(total))
    return Markup('<svg class="axis" width="100%" height="30" aria-hidden="true">{}</svg>').format(
        Markup("").join(parts)
    )


def draw_bar(spans: Sequence[Span], scale: Scale) -> Markup:
    """One step's line. Each piece says in words what it is. Made by the thousand; only `told` is a text, the rest is ours."""
    parts = [scale.marks]
    for one in spans:
        left = scale.place(one.start)
        right = scale.place(one.end) if one.end else _now(scale)
        width = max(right - left, LEAST)
        left = min(left, 100 - width)
        grows = f' data-grows="{scale.rate:.5f}"' if one.end is None else ""
        told = f"{grows}><title>{escape(one.told)}</title>"
        if one.kind in ("wait", "backoff"):
            line = f'<line class="{one.kind}" x1="{left:.3f}%" x2="{left + width:.3f}%" y1="9" y2="9"'
            parts.append(f"{line}{told}</line>")
        else:
            box = f'<rect class="{one.kind}" x="{left:.3f}%" width="{width:.3f}%" y="2" height="14"'
            parts.append(f"{box}{told}</rect>")
        if one.kind in ("failed", "lost"):
            sign = "✕" if one.kind == "failed" else "?"
            at = max(left + width, 1.5)
            parts.append(f'<text class="sign" x="{at:.3f}%" y="13" text-anchor="end">{sign}</text>')
    words = escape("; ".join(one.told for one in spans[:6]) or "it has not begun")
    whole = f'<svg class="spans" width="100%" height="18" role="img" aria-label="{words}">{"".join(parts)}</svg>'
    return Markup(whole)  # noqa: S704  # see above


def _now(scale: Scale) -> float:
    return scale.place(datetime.fromtimestamp(scale.now).astimezone())


def _mark(left: float, right: float) -> str:
    return f'<rect class="fold" x="{left:.2f}%" width="{right - left:.2f}%" y="0" height="18"/>'
