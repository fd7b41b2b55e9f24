"""Reading documents: JSON and YAML come out the same, and bad text is refused with a reason and a place."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from orchestrator.parse import MAX_BYTES, parse_document
from persistence.errors import Fault, InvalidDefinition


def faults_of(text: str | bytes, source: str = "") -> tuple[Fault, ...]:
    with pytest.raises(InvalidDefinition) as caught:
        parse_document(text, source=source)
    str(caught.value).encode()
    return caught.value.faults


def test_json_and_yaml_give_the_same_document() -> None:
    """A workflow means the same in either format, as text and as bytes, with and without a byte order mark."""
    document = {"steps": [{"name": "a", "params": {"n": 1, "f": 1.5, "t": True, "z": None, "s": "é", "l": [1, [2]]}}]}
    as_yaml = "steps:\n- name: a\n  params: {n: 1, f: 1.5, t: true, z: null, s: é, l: [1, [2]]}\n"
    as_json = json.dumps(document)
    for text in (
        as_json,
        as_yaml,
        as_json.encode(),
        b"\xef\xbb\xbf" + as_yaml.encode(),
        b"\xef\xbb\xbf" + as_json.encode(),
        "\ufeff" + as_json,
    ):
        assert parse_document(text) == document
    assert parse_document(b"\xef\xbb\xbf" + as_json.encode(), source="x.json") == document


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on: yes\noff: no\ny: n", {"on": "yes", "off": "no", "y": "n"}),
        ("a: True\nb: FALSE\nc: ~\nd:\ne: Null", {"a": True, "b": False, "c": None, "d": None, "e": None}),
        ("a: 0x1F\nb: 0o17\nc: +5\nd: 1e3\ne: .5\nf: 2.", {"a": 31, "b": 15, "c": 5, "d": 1000.0, "e": 0.5, "f": 2.0}),
        ("a: 1_000\nb: 1:30\nc: 0b1\nd: 1.2.3", {"a": "1_000", "b": "1:30", "c": "0b1", "d": "1.2.3"}),
        ("a: '2024-01-01'\nb: \"007\"\nc: !!str 5", {"a": "2024-01-01", "b": "007", "c": "5"}),
        ("a: &x {k: 1}\nb: *x\nc: [*x]", {"a": {"k": 1}, "b": {"k": 1}, "c": [{"k": 1}]}),
        ("a: |\n  x\n  y\nb: >\n  c\n  d", {"a": "x\ny\n", "b": "c d"}),
        ("{a: 1, b: [x, y]}", {"a": 1, "b": ["x", "y"]}),
        ("a: 123456789012345678901234567890", {"a": 123456789012345678901234567890}),
    ],
)
def test_yaml_is_read_by_the_core_schema_of_1_2(text: str, expected: Any) -> None:
    """Only true and false are booleans, only what looks like a number is one, and dates stay out."""
    parsed = parse_document(text)
    assert parsed == expected
    assert json.dumps(parsed) == json.dumps(expected)


@pytest.mark.parametrize(
    ("text", "pointer", "words"),
    [
        ('{"a": 1, "b": {"x": 1, "x": 2}, "a": 3}', "/a", "twice"),
        ("s:\n  - a: 1\n  - b: 1\n    b: 2", "/s/1/b", "line 4, column 5: the key is there twice"),
        ("a: [1, 2024-01-01]", "/a/1", "2024-01-01 is a date"),
        ("a: 2024-01-01T10:00:00Z", "/a", "is a date"),
        ("a: {b: 007}", "/a/b", "leading zero"),
        ("a: .nan", "/a", "not a number that JSON knows"),
        ("a: [-.inf]", "/a/0", "not a number that JSON knows"),
        ('{"a": NaN}', "/a", "not a number that JSON knows"),
        ('{"a": [1e999]}', "/a/0", "not a number that JSON knows"),
        ("a: {1: x}", "/a", "a key is a number, not text"),
        ("true: x", "", "a key is true or false, not text"),
        ("? [a]\n: b", "", "a key is a list, not text"),
        ("a:\n  <<: {b: 1}", "/a", "merge keys"),
        ('{"a": ["\\u0000"]}', "/a/0", "NUL"),
        ('a: "x\\0y"', "/a", "NUL character (\\u0000) at character 2"),
        ('{"b": {"a\\u0000": 1}}', "/b/a\\u0000", "the key holds a NUL"),
        ('{"a": "\\ud800"}', "/a", "surrogate"),
        ("a: !!python/object:os.system x", "/a", "the tag !!python/object:os.system is not supported"),
        ("a: !!timestamp 2024-01-01", "/a", "is a date"),
        ("a: !!binary aGk=", "/a", "the tag !!binary is not supported"),
        ("a: !!int x", "/a", "not what its tag !!int says"),
        ("a: !!set {x}", "/a", "the tag !!set"),
        ("a: *nowhere", "/a", "*nowhere names nothing"),
        ("a: &a [*a]", "/a/0", "*a names nothing"),
        ("a: " + "1" * 5000, "/a", "too many digits"),
        ('{"a": ' + "1" * 5000 + "}", "", "too many digits"),
        ("a: 1\n---\nb: 1", "", "line 2, column 1: a second document starts here"),
        ("a: \x00", "", "not YAML"),
        ("a:\n\t- b", "", "line 2, column 1: this is not YAML"),
        ('{"a": 1,\n "b": }', "", "line 2, column 7: this is not JSON"),
        ('{"a": 1}\x00', "", "this is not JSON"),
        ("[1, 2", "", "this is not JSON"),
        ("# nothing", "", "empty"),
        (" \n", "", "empty"),
        ("", "", "empty"),
        (b"a: \xff", "", "not UTF-8: byte 4"),
        ("a: '\ud800'", "", "surrogate pair at character 5"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(text: str | bytes, pointer: str, words: str) -> None:
    """Every fault of a text has a pointer as exact as the format allows and says what is wrong."""
    fault = faults_of(text)[0]
    assert fault.pointer == pointer
    assert words in fault.message


def test_all_doubled_keys_are_named_at_once() -> None:
    """Two objects with doubled keys are two faults, in document order."""
    faults = faults_of('{"b": [{"x": 1, "x": 2}, {"~/": 1, "~/": 2}]}')
    assert [fault.pointer for fault in faults] == ["/b/0/x", "/b/1/~0~1"]


def test_the_source_decides_the_format_and_stands_in_the_message() -> None:
    """A .yaml file that looks like JSON is YAML, a .json file is never anything else."""
    assert parse_document('{"a": }', source="flow.yaml") == {"a": None}
    assert faults_of("{a: 1}", source="flow.json")[0].message.startswith("flow.json, line 1, column 2")
    assert faults_of('{"a": }')[0].message.startswith("line 1, column 7")


@pytest.mark.parametrize("opening", ["[", "{", "- ", "? ", "{a: [", '{"a":', "[[],", "!!seq ["])
def test_nesting_without_end_is_a_fault(opening: str) -> None:
    """A megabyte of opening brackets neither ends the process nor takes long, in either format."""
    text = opening * (MAX_BYTES // len(opening))
    started = time.process_time()
    for source in ("x.yaml", "x.json"):
        assert faults_of(text, source)
    assert time.process_time() - started < 5


def test_a_hundred_levels_are_read_and_one_more_is_not() -> None:
    """The limit is the same for both formats."""
    for prefix, source in (('{"a":', "x.json"), ("{a: ", "x.yaml")):
        deepest = prefix + "[" * 100 + "]" * 100 + "}"
        too_deep = prefix + "[" * 101 + "]" * 101 + "}"
        assert parse_document(deepest, source=source)
        (fault,) = faults_of(too_deep, source)
        assert fault.pointer == "/a" + "/0" * 100
        assert "deeper than 100 levels" in fault.message


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)),
        "a: &a " + "x" * 500_000 + "\nb: [" + "*a," * 1000 + "]",
    ],
)
def test_aliases_that_unfold_without_end_are_refused(text: str) -> None:
    """A few lines of aliases do not become gigabytes, whether they multiply values or one long text."""
    started = time.process_time()
    (fault,) = faults_of(text)
    assert "unfold to too much" in fault.message
    assert time.process_time() - started < 2


def test_the_size_limit_counts_bytes() -> None:
    """One byte too many is refused, as text and as bytes, and letters outside ASCII count as what they take."""
    fitting = '{"a": "' + "x" * (MAX_BYTES - 9) + '"}'
    assert len(fitting) == MAX_BYTES
    assert parse_document(fitting)["a"].startswith("xxx")
    for text in (fitting + " ", (fitting + " ").encode(), '"' + "é" * (MAX_BYTES // 2) + '"'):
        assert "larger than 1,048,576 bytes" in faults_of(text)[0].message


@pytest.mark.parametrize("text", ["-\n" * (MAX_BYTES // 2), "[" + "a," * (MAX_BYTES // 2 - 1) + "]"])
def test_the_largest_documents_are_read_in_seconds(text: str) -> None:
    """The slowest shapes that fit the size limit stay within a few seconds of processor time."""
    started = time.process_time()
    assert len(parse_document(text, source="x.yaml")) >= MAX_BYTES // 2 - 1
    assert time.process_time() - started < 15
