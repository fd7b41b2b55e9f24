"""No expression takes a process away: what would take too long or too much memory is refused before it starts."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.bound_work import MAX_ITERATIONS, MAX_MEMORY, Bound, TooMuch, check_work
from orchestrator.cel_tree import read_tree
from orchestrator.conditions import ConditionError, compile_condition
from orchestrator.expressions import ExpressionError, compile_expression
from orchestrator.substitute import MAX_TEXT, compile_text

TEXT = "a" * 262_144
NUMBERS = list(range(10_000))
ISSUES = [
    {
        "number": n,
        "title": "ABC-1" * 12,
        "body": "b" * (100_000 if n == 3 else 500),
        "labels": [{"name": "bug"}, {"name": "x"}],
    }
    for n in range(1000)
]


def times(count: int, macro: str) -> str:
    return "".join([macro] * count)


@pytest.mark.parametrize(
    ("text", "scope"),
    [  # what each took before there was a bound
        ("xs.map(x, x + 1)", {"xs": NUMBERS}),  # 2.5 s, 1.6 GB
        ("xs.filter(x, xs == ys)", {"xs": NUMBERS, "ys": NUMBERS}),  # 4.4 s, 1.6 GB
        ("xs.filter(x, x in xs)", {"xs": NUMBERS * 3}),  # 4 s
        ("xs.exists(x, s + 'a' == t)", {"xs": NUMBERS[:9000], "s": TEXT, "t": TEXT + "b"}),  # 4.7 s, 4.1 GB
        ("xs.exists(x, (xs + xs)[0] == -1)", {"xs": NUMBERS}),  # 9 s, 6 GB
        ("xs.map(x, s + string(x))", {"xs": NUMBERS[:1000], "s": TEXT}),  # 0.5 GB
        ("xs.exists(x, s.contains(t))", {"xs": NUMBERS, "s": TEXT, "t": "a" * 1000 + "b"}),  # more than 25 s
        ("s.contains(t)" + times(100, " || s.contains(t)"), {"s": TEXT, "t": "a" * 131_072 + "b"}),  # 33 s
        ("xs.exists(x, 'aaaa'.matches(s))", {"xs": NUMBERS[:1000], "s": "(a|b)" * 50_000}),  # more than 25 s
        (r"xs.exists(x, 'a'.matches('\\pL{100}c'))", {"xs": [0] * 100}),  # 10 s
        ("s.matches('(.*a.{500}c|.*b.{400}c)')", {"s": "ab" * 131_072}),  # 1.5 s
        ("[s]" + times(20, ".map(x, x + x)"), {"s": "a" * 1000}),  # 5 s, 4 GB
        ("[xs]" + times(20, ".map(x, x + x)"), {"xs": NUMBERS}),  # all memory
        ("[1]" + times(30, ".map(x, [x, x])"), {}),  # all memory
        ("[1]" + times(30, ".map(x, {'a': x, 'b': x})"), {}),
        ("xs == ys" + times(1500, " && xs == ys"), {"xs": NUMBERS * 6, "ys": NUMBERS * 6}),  # 2.1 s
    ],
)
def test_what_would_keep_a_process_busy_is_refused(text: str, scope: dict[str, Any]) -> None:
    """In one sentence, as an expression and as a condition."""
    expression = compile_expression(text)
    expression.check()  # it validates
    with pytest.raises(ExpressionError, match="is too much work on these values: up to"):
        expression.evaluate(scope)
    with pytest.raises(ConditionError, match="too much work"):
        compile_condition(text).holds(scope)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("xs.map(x, x + 1)", {"xs": NUMBERS[:1900]}),
        ("xs.all(x, x >= 0)", {"xs": NUMBERS[:4900]}),
        ("s.contains(t)", {"s": TEXT, "t": "a" * 131_072 + "b"}),
        ("s.contains('needle') || s.matches('needle.*x$')", {"s": TEXT}),
        (
            "i.filter(x, x.labels.exists(l, l.name == 'bug')).map(x, x.title + ' #' + string(x.number))",
            {"i": ISSUES[:300]},
        ),
        ("i.map(x, {'title': x.title, 'labels': x.labels.map(l, l.name)})", {"i": ISSUES}),
        ("i.filter(x, x.title.matches('^[A-Z]{2,5}-[0-9]{1,4}$'))", {"i": ISSUES[:500]}),
        ("i.exists(x, x.body.contains('needle'))", {"i": ISSUES}),
        ("i.map(x, x.title + ': ' + x.body)", {"i": ISSUES}),
        ("i.filter(x, j.exists(y, y.number == x.number))", {"i": ISSUES[:90], "j": ISSUES[:50]}),
        ("i.map(x, i[0].number)", {"i": ISSUES}),
        ("size(i + i) == 2000", {"i": ISSUES}),
    ],
)
def test_ordinary_work_on_large_values_is_done(text: str, scope: dict[str, Any]) -> None:
    """One long text among a thousand items does not count a thousand times."""
    compile_expression(text).evaluate(scope)


def test_what_has_passed_is_reckoned_again_when_the_values_grow() -> None:
    """A compiled expression remembers what passed, for values that are no larger."""
    expression = compile_expression("xs.map(x, x + 2)")
    assert expression.evaluate({"xs": NUMBERS[:1000]})[-1] == 1001
    with pytest.raises(ExpressionError, match="too much work"):
        expression.evaluate({"xs": NUMBERS})
    assert expression.evaluate({"xs": NUMBERS[:1000]})[-1] == 1001


@pytest.mark.parametrize("inside", ["xs.map(y, [x, y])", "xs.filter(y, y != x)", "{'a': xs, 'b': [x]}", "xs + [x]"])
def test_the_bound_is_never_below_what_comes_out(inside: str) -> None:
    """The weight of the result, against what was reckoned."""
    from orchestrator.expressions import _Scales
    from orchestrator.paths import Path

    expression = compile_expression(f"xs.map(x, {inside})")
    xs = ["a" * n for n in range(60)]
    weight = _Scales(Path("", "", ())).bound(expression.evaluate({"xs": xs})).size[""]
    tree = read_tree(expression._compiled().serialize())
    values = {"afu9_0": _Scales(Path("", "", ())).bound(xs)}
    check_work(tree, values)
    largest = MAX_MEMORY
    try:
        from orchestrator import bound_work

        bound_work.MAX_MEMORY = weight - 1
        with pytest.raises(TooMuch):
            check_work(tree, values)
    finally:
        bound_work.MAX_MEMORY = largest


def test_cel_ends_after_as_many_iterations_as_we_reckon_with() -> None:
    """Its limit is not ours to set; a release that raised it would make our bounds too small."""
    xs = [0] * (MAX_ITERATIONS - 1)
    assert compile_expression("xs.all(x, x == 0)").evaluate({"xs": xs}) is True
    with pytest.raises(ExpressionError, match="budget"):
        compile_expression("xs.all(x, x == 0)").evaluate({"xs": [*xs, 0, 0]})


def test_one_value_named_a_hundred_thousand_times_is_refused() -> None:
    """A definition may have a megabyte of `${…}`."""
    with pytest.raises(ExpressionError, match="longer than 16,777,216 characters"):
        compile_text("${s}" * 100_000).render({"s": TEXT})
    assert len(compile_text("${s}" * 3).render({"s": TEXT})) < MAX_TEXT


def test_a_value_without_a_bound_weighs_a_node() -> None:
    """What is not there cannot be much."""
    tree = read_tree(compile_expression("absent.map(x, x)")._compiled().serialize())
    check_work(tree, {})
    assert Bound().items == 0
