"""Steps and what follows them, drawn."""

from __future__ import annotations

import re

from control_center.dashboard.draw.graph import WIDTH, Node, draw_graph, layer_steps, order_layers


def node(key: int, *after: int, name: str = "step", status: str = "completed") -> Node:
    return Node(key, name, status, status, f"/steps/{key}", after)


def test_a_step_stands_below_the_longest_way_to_it() -> None:
    assert layer_steps({0: [1, 3], 1: [2], 2: [3], 3: []}) == [[0], [1], [2], [3]]


def test_a_circle_is_drawn_all_the_same() -> None:
    assert layer_steps({0: [1], 1: [2], 2: [1]}) == [[0], [1, 2]]
    assert draw_graph([node(0, 0)]).count("<rect") == 1


def test_lines_do_not_cross_where_they_need_not() -> None:
    after = {0: [3], 1: [2], 2: [], 3: []}
    assert order_layers([[0, 1], [2, 3]], after) == [[0, 1], [3, 2]]


def test_every_step_and_every_line_is_drawn_once() -> None:
    drawn = draw_graph([node(0, 1, 2), node(1, 3), node(2, 3), node(3, 3 + 99)])
    assert drawn.count("<rect") == 4
    assert drawn.count("<path") == 4  # what follows and is not there is left out
    boxes = re.findall(r'<rect class="node completed" x="(\d+)" y="(\d+)"', drawn)
    assert len(set(boxes)) == 4
    assert boxes[1][1] == boxes[2][1]


def test_no_line_runs_behind_a_step_that_it_passes() -> None:
    """0 goes to 1, 2, 3 and 4, one below the other; 5 stands beside 2."""
    drawn = draw_graph([node(0, 1, 2, 3, 4), node(1, 2, 5), node(2, 3), node(3, 4), node(4), node(5, 4)])
    boxes = [tuple(map(int, one)) for one in re.findall(r'<rect class="node completed" x="(\d+)" y="(\d+)"', drawn)]
    tops = {(x + WIDTH // 2, y) for x, y in boxes}
    passing = 0
    for x, top in re.findall(r'd="M(\d+) (\d+)V', drawn):
        if (int(x), int(top)) in tops:  # it begins in a step
            continue
        passing += 1
        assert all(y != int(top) or not left < int(x) < left + WIDTH for left, y in boxes)
    assert passing == 6  # from 0 past 1, 2 and 3, which lines to several share; from 5 past 3
    ends = {(int(x), int(y)) for x, y in re.findall(r" (\d+) (\d+)\"/>", drawn)}
    assert tops - ends == {min(tops, key=lambda one: one[1])}


def test_a_status_is_a_sign_and_a_word_beside_its_colour() -> None:
    drawn = draw_graph([node(0, status="failed")])
    assert ">✕ failed<" in drawn
    assert 'class="node failed"' in drawn


def test_names_are_text_and_long_ones_are_cut() -> None:
    drawn = draw_graph([node(0, name="<script>alert('a long one')</script>")])
    assert "<script>" not in drawn
    assert "&lt;script&gt;alert(&#39;a lon…</text>" in drawn
    assert "<title>&lt;script&gt;alert(&#39;a long one&#39;)&lt;/script&gt;, completed</title>" in drawn


def test_nothing_is_a_drawing_too() -> None:
    assert "Graph of 0 steps" in draw_graph([])
