"""Steps and what follows them, from top to bottom. Pure: nodes in, SVG out.

A step's layer is the longest way to it; within a layer steps stand by the median of what they are joined with, which keeps
lines from crossing. A line that passes a layer has a lane of its own there, so that none runs behind a step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from control_center.timeline import glyph

WIDTH, HEIGHT = 176, 40  # of a step, in pixels
GAP, FALL = 16, 28  # between steps of a layer, between layers
LANE = 8  # of a line that passes a layer
SWEEPS = 4
LETTERS = 21  # of a name; all of it is in the title
LINE = Markup('<path class="edge" d="M{0} {1}V{2}C{0} {3} {4} {3} {4} {5}"/>')
BOX = Markup(
    '<a href="{href}" aria-label="{whole}, {word}"><title>{whole}, {word}</title>'
    '<rect class="node {status}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'
    '<text x="{text}" y="{first}">{name}</text><text class="word" x="{text}" y="{second}">{glyph} {word}</text></a>'
)
WHOLE = Markup(
    '<svg class="graph" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="group" aria-label="Graph of {2} steps">{3}</svg>'
)


@dataclass(frozen=True, slots=True)
class Node:
    """A step. `word`: what is said of it beside its sign; `after`: the keys of those that follow it."""

    key: int
    name: str
    status: str
    word: str
    href: str
    after: tuple[int, ...]


def layer_steps(after: Mapping[int, Sequence[int]]) -> list[list[int]]:
    """Layers from the top. Steps in a circle, of which there should be none, stand in the last."""
    needs = dict.fromkeys(after, 0)
    for following in after.values():
        for key in following:
            needs[key] += 1
    layer = {key: 0 for key, count in needs.items() if count == 0}
    ready = deque(layer)
    done: set[int] = set()
    while ready:
        key = ready.popleft()
        done.add(key)
        for one in after[key]:
            layer[one] = max(layer.get(one, 0), layer[key] + 1)
            needs[one] -= 1
            if needs[one] == 0:
                ready.append(one)
    last = max((layer[key] for key in done), default=-1) + 1
    layers: list[list[int]] = [[] for _ in range(last + 1)]
    for key in after:
        layers[layer[key] if key in done else last].append(key)
    return [one for one in layers if one]


def order_layers(layers: Sequence[Sequence[int]], after: Mapping[int, Sequence[int]]) -> list[list[int]]:
    """Each layer by the median place of its steps' neighbours, downwards and upwards by turns."""
    before: dict[int, list[int]] = {key: [] for key in after}
    for key, following in after.items():
        for one in following:
            before[one].append(key)
    ordered = [list(one) for one in layers]
    place = {key: _middle(index, layer) for layer in ordered for index, key in enumerate(layer)}
    for sweep in range(SWEEPS):
        joined = after if sweep % 2 else before
        for layer in reversed(ordered) if sweep % 2 else ordered:
            layer.sort(key=lambda key: median([place[other] for other in joined[key]] or [place[key]]))
            place.update({key: _middle(index, layer) for index, key in enumerate(layer)})
    return ordered


def _middle(index: int, layer: Sequence[int]) -> float:
    """A place counted from the middle of its layer: layers are centred."""
    return index - (len(layer) - 1) / 2


def add_lanes(
    layers: Sequence[Sequence[int]], after: Mapping[int, Sequence[int]]
) -> tuple[list[list[int]], dict[int, list[int]]]:
    """The same with a lane, whose key is below zero, in each layer that a line passes. Lines of one step share theirs."""
    row = {key: place for place, layer in enumerate(layers) for key in layer}
    lanes: dict[tuple[int, int], int] = {}
    wider = [list(layer) for layer in layers]
    joined: dict[int, list[int]] = {key: [] for key in after}
    for key, following in after.items():
        for one in following:
            last = key
            for place in range(row[key] + 1, row[one]):
                lane = lanes.get((key, place))
                if lane is None:
                    lane = lanes[key, place] = -1 - len(lanes)
                    wider[place].append(lane)
                    joined[last].append(lane)
                    joined[lane] = []
                last = lane
            joined[last].append(one)
    return wider, joined


def draw_graph(nodes: Sequence[Node]) -> Markup:
    known = {one.key: one for one in nodes}
    after = {one.key: [key for key in dict.fromkeys(one.after) if key in known] for one in nodes}
    layers, joined = add_lanes(layer_steps(after), after)
    layers = order_layers(layers, joined)
    whole = max((_room(one) for one in layers), default=WIDTH) + 2 * GAP
    height = len(layers) * (HEIGHT + FALL) + GAP
    middle: dict[int, tuple[int, int]] = {}
    for row, layer in enumerate(layers):
        left = (whole - _room(layer)) // 2
        for key in layer:
            middle[key] = (left + _width(key) // 2, GAP + row * (HEIGHT + FALL))
            left += _width(key) + GAP
    lines = [_line(middle[key], middle[one]) for key, following in joined.items() for one in following]
    boxes = [
        _box(known[key], middle[key][0] - WIDTH // 2, middle[key][1]) for layer in layers for key in layer if key >= 0
    ]
    return WHOLE.format(whole, height, len(nodes), Markup("").join(lines + boxes))


def _width(key: int) -> int:
    return WIDTH if key >= 0 else LANE


def _room(layer: Sequence[int]) -> int:
    return sum(_width(key) for key in layer) + GAP * (len(layer) - 1)


def _line(start: tuple[int, int], end: tuple[int, int]) -> Markup:
    """From the top of a layer to that of another: a step hides what of it is in its box."""
    bottom = start[1] + HEIGHT
    return LINE.format(start[0], start[1], bottom, (bottom + end[1]) // 2, end[0], end[1])


def _box(node: Node, x: int, y: int) -> Markup:
    name = node.name if len(node.name) <= LETTERS else node.name[: LETTERS - 1] + "…"
    return BOX.format(
        href=node.href,
        whole=node.name,
        word=node.word,
        status=node.status,
        x=x,
        y=y,
        width=WIDTH,
        height=HEIGHT,
        text=x + 10,
        first=y + 17,
        second=y + 32,
        name=name,
        glyph=glyph(node.status),
    )
