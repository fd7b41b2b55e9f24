"""Conditions: the original's forms, CEL, JavaScript's truthiness, and false where something is missing."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from orchestrator.conditions import Condition, ConditionError, compile_condition
from orchestrator.tokens import Malformed

SCOPE: dict[str, Any] = {
    "issue": {"state": "open", "labels": [{"name": "bug"}, {"name": "ui"}], "closed_at": None, "comments": 0},
    "items": [1, 2, 3],
    "flag": "yes",
    "off": False,
    "count": 4,
    "skipped": None,
    "in": 5,
    "loop": True,
    "type": "bug",
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(value, False) for value in (False, None, 0, 0.0, -0.0, "", float("nan"))],
        *[(value, True) for value in (True, 1, -1, 0.5, "x", "false", "0", " ", [], {}, [0], {"a": 0})],
    ],
    ids=repr,
)
@pytest.mark.parametrize("text", ["${a}", "a", "${a.b}", "!!a", "${a} && true", "a ? true : false"])
def test_a_lone_value_counts_as_in_javascript(text: str, value: Any, expected: bool) -> None:
    """Empty lists and objects are true; so it is alone and as an operand."""
    scope = {"a": {"b": value}} if ".b" in text else {"a": value}
    assert compile_condition(text).holds(scope) is expected


@pytest.mark.parametrize(
    "text",
    [
        "${issue.labels[0].name === 'bug'}",
        "${issue.labels.0.name == 'bug'}",
        "${issue.state} === 'open'",
        "'${issue.state}' === 'open'",
        '"${issue.state}" !== "closed" && ${count} > 3',
        "issue.state != 'closed'",
        "${issue.state} == 'open' && ${flag}",
        "flag && count > 3",
        "off || flag",
        "!off && !issue.closed_at && !${issue.comments}",
        "!(off && flag)",
        "!flag.startsWith('n') && !issue.labels[in - 5].name.endsWith('x')",
        "flag ? count == 4 : false",
        "(flag) == 'yes'",
        "${items.exists(x, x > 2)}",
        "items.all(x, x in [1, 2, 3]) && 2 in items",
        "size(items) == 3 && items.length == 3",
        "${skipped == null}",
        "!has(issue.nope) && has(issue.state)",
        "!has(issue.nope) || issue.nope == 1",
        "issue.nope == 1 || count == 4",
        "in == 5 && in in [5] && ${in} in [5]",
        "loop",
        "type(count) == int && type === 'bug'",
        "'===' == '===' && '!==' != '==='",
        "true",
        "${true}",
        "issue.labels.map(l, l.name) == ['bug', 'ui']",
        "issue.labels[0].name.startsWith('b') && flag",
        "${${count} > 3}",
    ],
)
def test_it_holds(text: str) -> None:
    """Every one of these is true of the scope."""
    assert compile_condition(text).holds(SCOPE) is True


@pytest.mark.parametrize(
    "text",
    [
        "false",
        "off",
        "${issue.nope}",
        "${nope}",
        "nope.x",
        "${nope.x == 1}",
        "${nope.x != 1}",
        "${nope.x} !== 'a'",
        "'${nope.x}' !== 'a'",
        "!nope.x",
        "${nope} && flag",
        "nope || off",
        "nope == null",
        "${skipped.x == 1}",
        "${skipped.x}",
        "issue.labels[9].name == 'bug'",
        "items[count] == 1",
        "items.exists(x, x > nope.y)",
        "issue.labels.exists(l, l.colour == 'red')",
        "nope ? true : true",
        "${issue.state} === 'Open'",
    ],
)
def test_it_does_not_hold(text: str) -> None:
    """Every one is false, most of them because the answer depends on something that is not there."""
    assert compile_condition(text).holds(SCOPE) is False


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${issue.state > 1}", "“issue.state > 1” cannot be worked out: No matching overloads"),
        ("1 / (count - 4) == 1", "divide by zero"),
        ("${big} > 1", "${big} holds a whole number beyond 64 bits"),
        ("items[0] > 1.5 + 'x'", "“items[0] > 1.5 + 'x'” is not an expression"),
        ("items.map(a, items.map(b, items.map(c, items.map(d, items.map(e, items.map(f, items.map(g, "
         "items.map(h, items.map(i, items)))))))))  == []", "budget exceeded"),
    ],
)  # fmt: skip
def test_a_condition_without_an_answer_is_an_error(text: str, words: str) -> None:
    """It is neither true nor false, and the reason names the expression as it was written."""
    with pytest.raises(ConditionError) as caught:
        compile_condition(text).holds({**SCOPE, "big": 2**64})
    assert words in str(caught.value)
    assert "afu9_" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "position"),
    [("", 0), ("  ", 0), ("${}", 0), ("${a", 0), ("a == `b`", 5), ("$${a}", 0), ("a = 'b", 4), ("a == 1; b", 6)],
)
def test_a_malformed_condition_is_refused_when_it_is_compiled(text: str, position: int) -> None:
    """The position is the character at fault, counted from 0."""
    with pytest.raises(Malformed) as caught:
        compile_condition(text)
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("${a ==}", 6),
        ("${a} ${b}", 7),
        ("a = 1", 2),
        (" ${ x.y === } ", 11),
        ("a.exists(in, true)", 9),
        ("size(1 2)", 7),
    ],
)
def test_what_is_not_an_expression_is_found_by_checking(text: str, position: int) -> None:
    """The position is in the text as written."""
    with pytest.raises(Malformed) as caught:
        compile_condition(text).check()
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("text", "roots"),
    [
        ("${a.b}", {"a"}),
        ("a", {"a"}),
        ("${a.b === 'c.d'} ", {"a"}),
        ("'${a}' == \"b ${c.d}\"", {"a", "c"}),
        ("a.exists(x, x > y) || x", {"a", "x", "y"}),
        ("has(a.b) && size(c) > d.e['f']", {"a", "c", "d"}),
        ("variables.a.b == variables['c']", {"a", "c"}),
        ("true || null == false", set()),
        ("in in in", {"in"}),
    ],
)
def test_the_roots_are_the_top_level_names_that_are_read(text: str, roots: set[str]) -> None:
    """They decide which variables a worker is handed."""
    assert compile_condition(text).roots == roots


def test_only_what_is_read_is_looked_at() -> None:
    """Numbers that CEL cannot hold elsewhere in the scope do no harm."""
    scope = {"a": {"n": 1, "big": 2**80}, "other": 2**80}
    assert compile_condition("a.n == 1").holds(scope)


def test_a_condition_compiles_once_per_text() -> None:
    """Ten thousand steps with the same condition share it."""
    assert compile_condition("${shared.a == 1}") is compile_condition("${shared.a == 1}")


def test_one_condition_serves_many_threads() -> None:
    """Threads that evaluate and compile at the same time get the right answers."""
    wrong: list[Any] = []

    def evaluate(number: int) -> None:
        for turn in range(300):
            condition: Condition = compile_condition(f"items.exists(x, x == {turn % 40}) || who == {number}")
            if not condition.holds({"items": [turn % 40], "who": 0}) or condition.holds({"items": [], "who": -1}):
                wrong.append((number, turn))

    threads = [threading.Thread(target=evaluate, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
