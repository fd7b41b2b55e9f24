"""The structural difference of two JSON values: every place, each once, and nothing but what differs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.difference import Change, differences, staying

WORDS = st.sampled_from(["", "a", "b", "~", "/", "~1", "é", "id", "0"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([0.5, -1.5, 2**53, 2**53 + 1]),
    WORDS,
    st.text(max_size=40),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=30,
)
THOROUGHLY = settings(max_examples=500, deadline=None, database=None)


def found(before: Any, after: Any) -> list[tuple[Any, ...]]:
    """kind, origin, path, before, after."""
    return [(one.kind, one.origin, one.path, one.before, one.after) for one in differences(before, after).listed]


def same(a: Any, b: Any) -> bool:
    """As JSON has it; the plain way, item by item."""
    if isinstance(a, bool) or isinstance(b, bool) or not isinstance(a, list | dict):
        return isinstance(a, bool) == isinstance(b, bool) and a == b
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)


class Step(NamedTuple):
    """A change with its pointers as keys; `path` None where nothing is left, `origin` None where nothing was."""

    kind: str
    origin: list[str] | None
    path: list[str] | None
    after: Any

    @classmethod
    def of(cls, change: Change) -> Step:
        origin = None if change.origin is None else keys(change.origin)
        return cls(change.kind, origin, None if change.kind == "removed" else keys(change.path), change.after)

    @property
    def here(self) -> bool:
        """A member that came, went or moved: not one that is another now, or holds such."""
        return self.kind in ("added", "removed", "moved") and 1 in (len(self.origin or []), len(self.path or []))

    def inside(self, old: str, new: str) -> bool:
        return self.origin[0] == old if self.origin is not None else self.path is not None and self.path[0] == new

    def shorter(self) -> Step:
        return self._replace(origin=self.origin and self.origin[1:], path=self.path and self.path[1:])


def keys(pointer: str) -> list[str]:
    return [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]


def applied(value: Any, steps: Sequence[Step]) -> Any:
    """The first value with the changes made to it."""
    for step in steps:
        if step.origin == [] == step.path:
            return step.after
    if not isinstance(value, list | dict):
        return value
    here = [step for step in steps if step.here]
    inner = [step for step in steps if not step.here]
    if isinstance(value, dict):
        gone = {step.origin[0] for step in here if step.origin is not None}
        kept = {key: applied(item, within(inner, key, key)) for key, item in value.items() if key not in gone}
        return kept | {step.path[0]: step.after for step in here if step.path is not None}
    come = {int(step.path[0]): step.after for step in here if step.path is not None}
    left = {int(step.origin[0]) for step in here if step.origin is not None}
    stayed = iter([index for index in range(len(value)) if index not in left])
    made = []
    for index in range(len(value) - len(left) + len(come)):
        if index in come:
            made.append(come[index])
        else:
            old = next(stayed)
            made.append(applied(value[old], within(inner, str(old), str(index))))
    return made


def within(steps: Sequence[Step], old: str, new: str) -> list[Step]:
    return [step.shorter() for step in steps if step.inside(old, new)]


@THOROUGHLY
@given(VALUES)
def test_a_value_does_not_differ_from_itself(value: Any) -> None:
    """Nor from a copy with its keys in another order."""
    copy = json.loads(json.dumps(value, sort_keys=True))
    assert differences(value, copy).listed == ()


@THOROUGHLY
@given(VALUES, VALUES)
def test_the_differences_made_to_one_value_give_the_other(before: Any, after: Any) -> None:
    """So none is missing, and none is told wrongly."""
    seen = differences(before, after, limit=10_000)
    assert seen.more == 0
    assert same(applied(before, [Step.of(one) for one in seen.listed]), after)
    assert (seen.listed == ()) == same(before, after)


@THOROUGHLY
@given(st.lists(SCALARS, max_size=12), st.data())
def test_a_reordered_list_has_only_moves(items: list[Any], data: st.DataObject) -> None:
    """And no more than there are items to move."""
    other = data.draw(st.permutations(items))
    kinds = [one.kind for one in differences(items, list(other)).listed]
    assert set(kinds) <= {"moved"}
    assert len(kinds) < max(len(items), 1)


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        (1, 2, [("changed", "", "", 1, 2)]),
        (1, "1", [("type_changed", "", "", 1, "1")]),
        (True, 1, [("type_changed", "", "", True, 1)]),
        (None, {}, [("type_changed", "", "", None, {})]),
        ([], {}, [("type_changed", "", "", [], {})]),
        (1, 1.0, []),
        (2**53, 2**53 + 1, [("changed", "", "", 2**53, 2**53 + 1)]),
        (float(2**53), 2**53 + 1, [("changed", "", "", float(2**53), 2**53 + 1)]),
        ({"a": None}, {}, [("removed", "/a", "/a", None, None)]),
        ({}, {"a": None}, [("added", None, "/a", None, None)]),
        ({"a/b": {"~": 1}}, {"a/b": {"~": 2}}, [("changed", "/a~1b/~0", "/a~1b/~0", 1, 2)]),
        ("é", "e\u0301", [("changed", "", "", "é", "e\u0301")]),
        (["a", "b"], ["a", "x", "b"], [("added", None, "/1", None, "x")]),
        (["a", "b", "c"], ["b", "c"], [("removed", "/0", "/0", "a", None)]),
        (
            [{"a": 1, "b": 2}, 5, 6],
            [5, 6, {"b": 2, "a": 1}],
            [("moved", "/0", "/2", {"a": 1, "b": 2}, {"a": 1, "b": 2})],
        ),
        (["a", "b", "c"], ["b", "c", "a"], [("moved", "/0", "/2", "a", "a")]),
        ([1, 2, 3], [1, 9, 3], [("changed", "/1", "/1", 2, 9)]),
        ([{"v": 1}, 5], [0, {"v": 1}, 5], [("added", None, "/0", None, 0)]),
        (
            [{"id": 1, "v": 1}, {"id": 2, "v": 1}],
            [{"id": 0, "v": 1}, {"id": 1, "v": 2}, {"id": 2, "v": 1}],
            [("added", None, "/0", None, {"id": 0, "v": 1}), ("changed", "/0/v", "/1/v", 1, 2)],
        ),
    ],
)
def test_places_are_told(before: Any, after: Any, changes: list[tuple[Any, ...]]) -> None:
    """With pointers into both values."""
    assert found(before, after) == changes


def test_large_values_cost_what_they_are_large() -> None:
    """Some megabytes, turned round or changed everywhere; a hundred places are listed, the others counted."""
    items = [{"id": number, "text": "x" * 20, "on": number % 2 == 0} for number in range(80_000)]
    assert len(json.dumps(items)) > 4_000_000
    turned = differences(items, items[::-1])
    assert (len(turned.listed), turned.more) == (100, 79_899)
    changed = differences(items, [item | {"text": "y"} for item in items])
    assert (len(changed.listed), changed.more) == (100, 79_900)
    assert changed.listed[0].path == "/0/text"


def test_deep_values_are_compared_without_recursion() -> None:
    """Deeper than Python calls itself."""
    values: list[Any] = [1, 2]
    for _ in range(20_000):
        values = [[value] for value in values]
    (one,) = differences(*values).listed
    assert (one.path, one.before, one.after) == ("/0" * 20_000, 1, 2)


def test_what_stays_is_the_longest_rising_sequence() -> None:
    """The fewest then have moved."""
    assert staying([]) == []
    assert staying([3, 0, 1, 2]) == [1, 2, 3]
    assert staying([1, 2, 3, 0]) == [0, 1, 2]
    assert staying([0, 4, 1, 2, 3]) == [0, 2, 3, 4]
