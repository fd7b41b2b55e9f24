"""Drawing runs as a grid, summing them up, and forms from schemas."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from control_center.dashboard.ask_input import fields_of, names_read, read_input, takes_more
from control_center.dashboard.draw.grid import SIZE, TALLEST, Cell, Column, draw_grid
from control_center.dashboard.sum_up_runs import merge_names, percentile, sum_up

SCRIPT = '"><script>alert(1)</script>'
SVG = "{http://www.w3.org/2000/svg}"


def parsed(columns: list[Column]) -> ElementTree.Element:
    text = str(draw_grid(columns, SCRIPT))
    return ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))  # noqa: S314


def test_every_cell_is_a_link_with_a_glyph_and_words_and_nothing_escapes_its_text() -> None:
    cells = [Cell("failed", f"/e/1?{SCRIPT}", f"step {SCRIPT}"), None, Cell("retried", "/e/2", "later")]
    svg = parsed([Column(Cell("running", "/e", "run"), None, cells)])
    links = svg.findall(f"{SVG}a")
    assert [link.attrib["href"] for link in links] == ["/e", f"/e/1?{SCRIPT}", "/e/2"]
    assert [link.findtext(f"{SVG}title") for link in links] == ["run", f"step {SCRIPT}", "later"]
    assert [link.findtext(f"{SVG}text") for link in links] == [None, "✕", "↻"]
    assert [link.attrib["class"] for link in links] == ["bar running", "cell failed", "cell retried"]
    assert svg.attrib["aria-label"] == SCRIPT


def test_columns_stand_side_by_side_and_bars_are_as_tall_as_the_runs_took() -> None:
    columns = [Column(Cell("completed", "/", ""), ms, [Cell("completed", "/", "")] * 3) for ms in (100, 50, None)]
    svg = parsed(columns)
    assert (svg.attrib["width"], int(svg.attrib["height"])) == (str(3 * SIZE), TALLEST + 2 + 3 * SIZE)
    bars = [link.findall(f"{SVG}rect")[1].attrib for link in svg.findall(f"{SVG}a") if "bar" in link.attrib["class"]]
    assert [int(bar["height"]) for bar in bars] == [TALLEST, TALLEST // 2, 2]
    assert all(int(bar["y"]) + int(bar["height"]) == TALLEST for bar in bars)


def test_no_runs_are_a_picture_without_cells() -> None:
    assert parsed([]).findall(f"{SVG}a") == []


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile(range(1, 101), 95) == 95
    assert percentile([7], 50) == 7
    assert percentile([3, 1], 50) == 1
    assert percentile([], 50) is None


def test_runs_are_summed_up_over_what_ended() -> None:
    rows: list[dict[str, Any]] = [
        {"status": "completed", "duration_ms": 10, "cost_nanos": 4, "retry_count": 2},
        {"status": "failed", "duration_ms": 99, "cost_nanos": None, "retry_count": 1},
        {"status": "running", "duration_ms": None, "cost_nanos": 8},
    ]
    found = sum_up(rows)
    assert (found.success, found.ended, found.p50, found.retries, found.cost_nanos) == ("50 %", 2, 10, 3, 6)
    assert sum_up([]).success == "–"


def test_steps_of_all_versions_have_one_order() -> None:
    assert merge_names([["a", "b", "c"], ["a", "x", "c"], ["y", "a"], []]) == ["y", "a", "x", "b", "c"]


SCHEMA = {
    "type": "object",
    "required": ["issue", "mode"],
    "properties": {
        "issue": {"type": "integer", "minimum": 1, "description": "its number"},
        "mode": {"enum": ["fast", 3, None], "default": "fast"},
        "dry": {"type": "boolean", "default": False},
        "text": {"type": "string", "default": "hello"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}


def test_each_property_has_the_field_of_its_type() -> None:
    fields = fields_of(SCHEMA)
    assert [(one.key, one.kind, one.required, one.default) for one in fields] == [
        ("in.issue", "number", True, ""),
        ("in.mode", "choice", True, '"fast"'),
        ("in.dry", "boolean", False, "false"),
        ("in.text", "text", False, "hello"),
        ("in.tags", "json", False, ""),
    ]
    assert fields[1].choices == ('"fast"', "3", "null")
    assert takes_more(SCHEMA, fields)
    assert not takes_more(SCHEMA | {"additionalProperties": False}, fields)
    assert takes_more(None, [])


def test_what_was_typed_becomes_values_of_those_types_and_integers_stay_exact() -> None:
    given = {
        "in.issue": "9007199254740993",
        "in.mode": "null",
        "in.dry": "true",
        "in.text": "a\r\nb",
        "in.tags": '["x"]',
    }
    typed = read_input(SCHEMA, given | {"input": '{"more": 1e2}'})
    assert typed.faults == {}
    assert typed.value == {"more": 100, "issue": 2**53 + 1, "mode": None, "dry": True, "text": "a\nb", "tags": ["x"]}


@pytest.mark.parametrize(
    ("given", "key", "told"),
    [
        ({"in.mode": "3"}, "in.issue", "it is needed"),
        ({"in.issue": "x", "in.mode": "3"}, "in.issue", "not a number"),
        ({"in.issue": '"7"', "in.mode": "3"}, "in.issue", "is not of type 'integer'"),
        ({"in.issue": "0", "in.mode": "3"}, "in.issue", "minimum"),
        ({"in.issue": "1", "in.mode": "4"}, "in.mode", "is not one of"),
        ({"in.issue": "1", "in.mode": "3", "in.tags": "[1]"}, "in.tags", "$.tags[0]: 1 is not of type"),
        ({"in.issue": "1", "in.mode": "3", "input": "[]"}, "input", "must be a JSON object"),
        ({"in.issue": "NaN", "in.mode": "3"}, "in.issue", "NaN is not JSON"),
    ],
)
def test_faults_stand_at_their_fields(given: dict[str, str], key: str, told: str) -> None:
    assert told in read_input(SCHEMA, given).faults[key]


@pytest.mark.parametrize("schema", [None, {"$ref": "http://example.invalid/x"}, {"$ref": "#"}])
def test_a_schema_that_points_elsewhere_or_at_itself_judges_nothing(schema: Any) -> None:
    assert read_input(schema, {"input": '{"a": 1}'}).value == {"a": 1}


def test_what_must_not_be_shown_is_not_offered_nor_sent_for_what_it_hides() -> None:
    schema = {"properties": {"api_token": {"type": "string", "default": "hunter2"}}}
    assert [one.default for one in fields_of(schema)] == [""]
    typed = read_input(schema, {"in.api_token": "[redacted]", "input": '{"more": "[redacted]"}'})
    assert set(typed.faults) == {"in.api_token", "input"}


def test_a_text_that_is_left_empty_is_not_there() -> None:
    assert read_input({"properties": {"a": {"type": "string"}}}, {"in.a": ""}).value == {}


def test_the_names_that_templates_read_are_hints() -> None:
    params = {"a": "${input.issue}", "b": "x ${ input.day + 1 } ${input.issue}", "c": "input.no"}
    assert names_read({"steps": [{"params": params}]}) == ["issue", "day"]
