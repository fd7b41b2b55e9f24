"""Substitution: what goes in comes out, with its type, and what is not there is named."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from orchestrator.expressions import ExpressionError
from orchestrator.paths import EvaluationError
from orchestrator.substitute import PathNotFound, compile_template
from orchestrator.tokens import Malformed

SCOPE: dict[str, Any] = {
    "input": {
        "count": 3,
        "half": 1.5,
        "yes": True,
        "none": None,
        "text": "it's “${x}”\n",
        "big": 2**80,
        "list": [1, [2], {"k": "v"}],
        "empty": {},
        "content-type": "json",
        "any key": {"a.b": 1, 'q"': 2},
        "0": "zero",
    },
    "issue": {"number": 7, "labels": [{"name": "bug"}, {"name": "ui"}]},
    "skipped": None,
    "in": 4,
    "package": 5,
    "type": "T",
    "count": 9,
}


def render(template: Any, scope: Any = None) -> Any:
    return compile_template(template).render(SCOPE if scope is None else scope)


@pytest.mark.parametrize("key", sorted(SCOPE["input"]))
def test_a_lone_path_keeps_the_value_and_its_type(key: str) -> None:
    """Whatever JSON the value is, it arrives as that."""
    value = SCOPE["input"][key]
    rendered = render(f'${{input["{key}"]}}')
    assert rendered == value
    assert type(rendered) is type(value)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("${input.count}", 3),
        ("${ input.count }", 3),
        ("${issue.labels[1].name}", "ui"),
        ("${issue.labels.1.name}", "ui"),
        ("${input.0}", "zero"),
        ("${input[0]}", "zero"),
        ("${input.content-type}", "json"),
        ("${input['any key']['a.b']}", 1),
        ('${input["any key"]["q\\""]}', 2),
        ("${issue.labels.length}", 2),
        ("${variables.issue.number}", 7),
        ("${skipped}", None),
        ("${in}", 4),
        ("${package}", 5),
        ("${type}", "T"),
    ],
)
def test_a_path_may_be_written_in_several_ways(template: str, expected: Any) -> None:
    """Indices with dots or brackets, keys with dashes or in quotes, and the original's `variables.` prefix."""
    assert render(template) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("n=${input.count}", "n=3"),
        ("${input.count}${input.count}", "33"),
        (" ${input.count}", " 3"),
        ("${input.yes} ${input.none} ${input.half}", "true null 1.5"),
        ("<${input.text}>", "<it's “${x}”\n>"),
        ("<${input.list}>", '<[1,[2],{"k":"v"}]>'),
        ("<${input.empty}>", "<{}>"),
        ("<${input.big}>", f"<{2**80}>"),
        ("fix/${issue.number}", "fix/7"),
        ("a\n${in}\nb", "a\n4\nb"),
    ],
)
def test_inside_a_text_texts_stand_as_they_are_and_the_rest_as_compact_json(template: str, expected: str) -> None:
    """Values are not substituted again, however much they look like a template."""
    assert render(template) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("$${HOME}", "${HOME}"),
        ("a $${x} ${in}", "a ${x} 4"),
        ("$${", "${"),
        ("$$${in}", "$${in}"),
        ("${'$'}${in}", "$4"),
        ("$ {in} $in {in}", "$ {in} $in {in}"),
        ("100$", "100$"),
    ],
)
def test_a_literal_opening_is_written_with_two_dollar_signs(template: str, expected: str) -> None:
    """`$${` is a literal `${`, and a dollar sign alone is nothing special."""
    assert render(template) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("${input.count + 1}", 4),
        ("${count - 1}", 8),
        ("${count -1}", 8),
        ("${'a}b{' + \"}\"}", "a}b{}"),
        ("${{'a': count}}", {"a": 9}),
        ("${{'a': {'b': count}}.a.b}", 9),
        ("${issue.labels.map(l, l.name)}", ["bug", "ui"]),
        ("${issue.labels.filter(l, l.name != 'ui').size()}", 1),
        ("${issue.labels.map(a, issue.labels.map(b, a.name + b.name))}", [["bugbug", "bugui"], ["uibug", "uiui"]]),
        ("${has(issue.title) ? issue.title : 'none'}", "none"),
        ("${has(issue.number)}", True),
        ("${in + package}", 9),
        ("${type + 'x'}", "Tx"),
        ("${type(in) == int}", True),
        ("${issue.labels[in - 4].name}", "bug"),
        ("${input['any key']['a.b'] + 1}", 2),
        ("${'${in}' + 'x ${package}'}", "4x 5"),
        ("${size(input.list)} items", "3 items"),
        ("${input.count === 3 ? 'x' : 'y'}", "x"),
        ("${'=== ${in} !=='}", "=== 4 !=="),
        ("${true}", True),
        ("${null}", None),
        ("${1.5 * 2.0}", 3.0),
        ("${in\n + 1}", 5),
    ],
)
def test_anything_beyond_a_path_is_an_expression(template: str, expected: Any) -> None:
    """CEL, over any names, with JavaScript's equality signs and JSON results."""
    rendered = render(template)
    assert rendered == expected
    assert json.dumps(rendered) == json.dumps(expected)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("${nope.x}", "${nope.x} does not exist: nothing is called nope here, there is count, in, input"),
        ("${issue.titel}", "issue has no titel, it has labels, number"),
        ("${issue.labels[2].name}", "issue.labels is a list of 2, it has no item 2"),
        ("${issue.labels[99999999999].x}", "it has no item 99999999999"),
        ("${issue.labels.²}", "it has no item ²"),
        ("${issue.labels.name}", "issue.labels is a list of 2, it has no item name"),
        ("${skipped.x}", "skipped is null, so it has no x; a variable is null when its step was skipped"),
        ("${input.none.a.b}", "input.none is null"),
        ("${issue.number.x}", "issue.number is a number, so it has no x"),
        ("${input.empty.x}", "input.empty has no x, it is empty"),
        ("${count-1}", "to subtract, put spaces around the minus sign"),
        ("a ${nope} b", "nothing is called nope"),
        ("${nope + 1}", "${nope} does not exist"),
        ("${issue.labels.map(l, l.nme)}", 'Key not found in map : "nme"'),
        ("${issue.labels[in]}", "index=4 size=2"),
    ],
)
def test_a_path_that_does_not_exist_is_named_with_what_is_there(template: str, words: str) -> None:
    """The message says where the path ends and which keys there are, and shows no values."""
    with pytest.raises(PathNotFound) as caught:
        render(template)
    assert words in str(caught.value)
    assert "bug" not in str(caught.value)


def test_long_lists_of_keys_are_cut() -> None:
    """A message stays readable however many keys an object has, and however long they are."""
    with pytest.raises(PathNotFound) as caught:
        render("${a.x}", {"a": {f"key{n:05}" + "y" * 1000: n for n in range(10_000)}})
    assert "and 9992 more" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("${input.half * 2}", "whole and decimal numbers do not mix"),
        ("${1 / (in - 4)}", "divide by zero"),
        ("${issue.number + 'x'}", "No matching overloads"),
        ("${input.big + 1}", "${input.big} holds a whole number beyond 64 bits"),
        ("${[input.list, input][1].count}", "${input} holds a whole number beyond 64 bits"),
        ("${timestamp('2020-01-01T00:00:00Z')}", "gives a datetime, which JSON does not have"),
        ("${{1: 2}}", "keys that are not text"),
        ("${b'x'}", "gives a bytearray"),
        ("${0.0 / 0.0}", "gives a float"),
        (
            "${[1,2,3,4,5,6,7,8,9,0].map(a, [1,2,3,4,5,6,7,8,9,0].map(b, [1,2,3,4,5,6,7,8,9,0].map(c,"
            " [1,2,3,4,5,6,7,8,9,0].map(d, [1,2,3,4,5,6,7,8,9,0].map(e, in)))))}",
            "budget exceeded",
        ),
    ],
)
def test_an_expression_without_a_value_is_an_error_with_a_reason(template: str, words: str) -> None:
    """Wrong types, results that JSON lacks and too much work end in one clear sentence."""
    with pytest.raises(ExpressionError) as caught:
        render(template)
    assert words in str(caught.value)
    assert "afu9_" not in str(caught.value)


def test_every_failure_to_render_is_one_kind_of_error() -> None:
    """Whoever renders catches EvaluationError and has them all."""
    assert issubclass(PathNotFound, EvaluationError)
    assert issubclass(ExpressionError, EvaluationError)


def test_a_value_nested_without_end_does_not_end_the_process() -> None:
    """CEL copies values by recursion; a value too deep for that is refused, wherever it is not needed it does no harm."""
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    scope = {"a": {"deep": deep, "n": 1}}
    assert render("${a.n + 1}", scope) == 2
    for template in ("${size(a)}", "x ${a.deep}"):
        with pytest.raises(ExpressionError):
            render(template, scope)
    while deep:
        deep = deep.pop()  # taken apart by hand: the interpreter's own clean-up recurses


@pytest.mark.parametrize(
    ("template", "position"),
    [
        ("${", 0),
        ("ab${c", 2),
        ("${}", 0),
        ("x ${ }", 2),
        ("${it's}", 4),
        ("${a `b`}", 4),
        ("${" * 12 + "a" + "}" * 12, 20),
        ("${" + "a+" * 11_000 + "a}", 2),
    ],
)
def test_a_malformed_text_is_refused_when_it_is_compiled(template: str, position: int) -> None:
    """The position is the character at fault, counted from 0 in the whole text."""
    with pytest.raises(Malformed) as caught:
        compile_template({"a": [template]})
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("template", "position"),
    [
        ("ab ${x ==}", 9),
        ("${'é' + + in}", 8),
        ("${a.b and c}", 6),
        ("${a.}", 4),
        ("${f(${longer.path.than.its.name}, 1}", 35),
    ],
)
def test_what_is_not_an_expression_is_found_by_checking(template: str, position: int) -> None:
    """The position is in the text as written, not in what was made of it."""
    made = compile_template(template)
    with pytest.raises(Malformed) as caught:
        made.check()
    assert caught.value.position == position


def test_the_roots_are_the_top_level_names_that_are_read() -> None:
    """Local names of macros, functions, methods, types, keys of objects and literals are not among them."""
    template = {
        "${not_read}": "${a.b} ${c['d'].e}",
        "l": ["${f.all(x, x.y > g.h) && size(i) > 1}", "$${nor_this}", "${variables.j.k}", 5],
        "m": "${type(k) == string ? 'l' : \"${m.n}\"}",
        "o": "${has(o.p) && q.startsWith(r.s['t'])}",
    }
    assert compile_template(template).roots == frozenset("acfgijkmoqr")


def test_rendering_copies_the_template_and_leaves_keys_alone() -> None:
    """What a caller does to one result shows neither in the next one nor in the template's source."""
    source = {"${in}": [{"a": [1]}], "b": {"c": "${in}"}}
    template = compile_template(source)
    first = template.render(SCOPE)
    first["${in}"][0]["a"].append(2)
    first["b"]["c"] = 0
    assert template.render(SCOPE) == {"${in}": [{"a": [1]}], "b": {"c": 4}}
    assert source == {"${in}": [{"a": [1]}], "b": {"c": "${in}"}}


def random_json(draw: random.Random, depth: int = 0) -> Any:
    kinds = ["null", "bool", "int", "float", "text"] + ([] if depth > 3 else ["list", "object"] * 2)
    match draw.choice(kinds):
        case "null":
            return None
        case "bool":
            return draw.random() < 0.5
        case "int":
            return draw.randint(-(2**70), 2**70)
        case "float":
            return draw.uniform(-1e9, 1e9)
        case "text":
            return "".join(draw.choice("a${}[].\"'\\ é\n😀") for _ in range(draw.randint(0, 12)))
        case "list":
            return [random_json(draw, depth + 1) for _ in range(draw.randint(0, 4))]
    return {f"k{n}${{": random_json(draw, depth + 1) for n in range(draw.randint(0, 4))}


def escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, list):
        return [escaped(item) for item in value]
    if isinstance(value, dict):
        return {key: escaped(member) for key, member in value.items()}
    return value


@pytest.mark.parametrize("seed", range(200))
def test_any_value_comes_through_unchanged(seed: int) -> None:
    """As a value of the scope, inside a text as JSON, and as a template whose `${` are escaped."""
    value = random_json(random.Random(seed))  # noqa: S311
    assert render({"x": ["${v}"]}, {"v": value}) == {"x": [value]}
    assert (
        render("<${v}>", {"v": [value]}) == "<" + json.dumps([value], ensure_ascii=False, separators=(",", ":")) + ">"
    )
    assert render(escaped(value), {}) == value


PIECES = [
    "${",
    "}",
    "{",
    "[",
    "]",
    "(",
    ")",
    ".",
    "a",
    "in",
    "x",
    "1",
    "0.5",
    '"',
    "'",
    " ",
    "&&",
    "!",
    "===",
    "?",
    ":",
]
PIECES += [
    "has(",
    ".exists(x, ",
    "+",
    "/",
    "\\",
    "$${",
    "size(",
    "type(",
    "true",
    "\n",
    "é",
    '"""',
    "r'",
    "[0]",
    "`",
    "b'",
]


@pytest.mark.parametrize("seed", range(20))
def test_no_text_makes_compiling_or_rendering_fail_in_another_way(seed: int) -> None:
    """Whatever the text, it renders, or is malformed, or has no value: never another exception."""
    draw = random.Random(seed)  # noqa: S311
    for _ in range(300):
        text = "${" + "".join(draw.choice(PIECES) for _ in range(draw.randint(1, 12))) + draw.choice(["}", ""])
        outcome = "rendered"
        try:
            template = compile_template(text)
            template.check()
            template.render(SCOPE)
        except Malformed as error:
            outcome = "malformed" if 0 <= error.position <= len(text) else "malformed nowhere"
        except EvaluationError as error:
            outcome = "no value" if str(error) else "no reason"
        assert outcome in ("rendered", "malformed", "no value"), text
