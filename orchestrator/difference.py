"""Where two JSON values differ: each place with its pointers, in document order. Pure.

Numbers are equal by value, as jsonb has them (1 and 1.0, but not 2^53 and 2^53 + 1); true is not 1, and null is not an
absent key. Nothing here recurses, and the work grows with the size of the values: a list is compared by its items'
fingerprints, not item by item.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice, pairwise
from typing import Any, Final, Literal

from orchestrator.describe import kind_of
from orchestrator.plain import pointer_to

LIMIT = 100
SHORT = 32  # bytes of a text that stand for themselves; of a longer one a hash does
IDENTITIES = ("id", "key", "name")  # members by which the items of a list are told apart
Kind = Literal["changed", "type_changed", "added", "removed", "moved"]


class _Absent:
    """What a key that is not there has for a value."""


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Change:
    """One place. `path` points into the second value, or into the first at what was removed; `origin` into the first,
    None at what was added (JSON pointers, RFC 6901). They differ inside lists whose items came, went or moved.
    before, after: the values there; None at the side that has none."""

    kind: Kind
    path: str
    origin: str | None
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Differences:
    """`more`: how many there are beyond those listed."""

    listed: tuple[Change, ...]
    more: int


def differences(before: Any, after: Any, limit: int = LIMIT) -> Differences:
    """All places where `after` is not as `before`, of which `limit` are listed."""
    if _same_text(before, after):
        return Differences((), 0)
    found = _walk(before, after)
    listed = tuple(islice(found, limit))
    return Differences(listed, sum(1 for _ in found))


def _same_text(before: Any, after: Any) -> bool:
    """The quick way to see that nothing differs; where it sees nothing, fingerprints do."""
    try:
        return json.dumps(before) == json.dumps(after)
    except RecursionError:
        return False


_Place = tuple[str | None, str, Any, Any]  # origin, path, before, after


def _walk(before: Any, after: Any) -> Iterator[Change]:
    fingerprint = Fingerprints()
    left: list[Change | _Place] = [("", "", before, after)]
    while left:
        place = left.pop()
        if isinstance(place, Change):
            yield place
            continue
        origin, path, old, new = place
        if old is ABSENT:
            yield Change("added", path, None, None, new)
        elif new is ABSENT:
            yield Change("removed", path, path, old, None)
        elif fingerprint(old) == fingerprint(new):
            continue
        elif isinstance(old, dict) and isinstance(new, dict):
            left += [*_members(origin or "", path, old, new)][::-1]
        elif isinstance(old, list) and isinstance(new, list):
            left += [*_items(origin or "", path, old, new, fingerprint)][::-1]
        else:
            kind: Kind = "changed" if kind_of(old) == kind_of(new) else "type_changed"
            yield Change(kind, path, origin, old, new)


def _members(origin: str, path: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[_Place]:
    for key in sorted(old.keys() | new.keys()):
        step = pointer_to((key,))
        mine, theirs = old.get(key, ABSENT), new.get(key, ABSENT)
        yield origin + step, (origin if theirs is ABSENT else path) + step, mine, theirs


def _items(
    origin: str, path: str, old: list[Any], new: list[Any], fingerprint: Fingerprints
) -> Iterator[Change | _Place]:
    """By index: what was removed by its old one, all else by its new one."""
    kept, moved = _matched(old, new, fingerprint)
    gone = set(range(len(old))) - {i for i, _ in kept + moved}
    come = set(range(len(new))) - {j for _, j in kept + moved}
    places: list[tuple[int, int, Change | _Place]] = [
        *((i, 0, (f"{origin}/{i}", f"{origin}/{i}", old[i], ABSENT)) for i in gone),
        *((j, 1, (None, f"{path}/{j}", ABSENT, new[j])) for j in come),
        *((j, 1, (f"{origin}/{i}", f"{path}/{j}", old[i], new[j])) for i, j in kept),
        *((j, 1, Change("moved", f"{path}/{j}", f"{origin}/{i}", old[i], new[j])) for i, j in moved),
    ]
    return (place for _, _, place in sorted(places, key=lambda place: place[:2]))


_Pairs = list[tuple[int, int]]


def _matched(old: list[Any], new: list[Any], fingerprint: Fingerprints) -> tuple[_Pairs, _Pairs]:
    """Which items belong together, as pairs of indexes: those that keep their order, equal or not, and equal ones that
    moved. Between items that are equal and stay, the others are taken for changed where there are as many on both sides,
    or where they name themselves."""
    first = _common(old, new, fingerprint)
    last = _common(old[first:][::-1], new[first:][::-1], fingerprint)
    old_end, new_end = len(old) - last, len(new) - last
    places: defaultdict[bytes, deque[int]] = defaultdict(deque)
    for j in range(first, new_end):
        places[fingerprint(new[j])].append(j)
    equal = [(i, places[print_].popleft()) for i in range(first, old_end) if places.get(print_ := fingerprint(old[i]))]
    stay = {equal[number] for number in staying([j for _, j in equal])}
    moved = [pair for pair in equal if pair not in stay]
    anchors = sorted(stay)
    kept = [(i, i) for i in range(first)] + anchors + [(old_end + n, new_end + n) for n in range(last)]
    taken_old, taken_new = {i for i, _ in equal}, {j for _, j in equal}
    for (i, j), (next_i, next_j) in pairwise([(first - 1, first - 1), *anchors, (old_end, new_end)]):
        olds = [n for n in range(i + 1, next_i) if n not in taken_old]
        news = [n for n in range(j + 1, next_j) if n not in taken_new]
        kept += zip(olds, news, strict=True) if len(olds) == len(news) else _by_identity(olds, news, old, new)
    return kept, moved


def _common(old: Sequence[Any], new: Sequence[Any], fingerprint: Fingerprints) -> int:
    """How many items are equal from the start."""
    count = 0
    for mine, theirs in zip(old, new, strict=False):
        if fingerprint(mine) != fingerprint(theirs):
            break
        count += 1
    return count


def _by_identity(olds: list[int], news: list[int], old: list[Any], new: list[Any]) -> _Pairs:
    named = {_identity(new[j]): j for j in reversed(news)}
    named.pop(None, None)
    pairs: _Pairs = []
    for i in olds:
        name = _identity(old[i])
        if name in named and (not pairs or named[name] > pairs[-1][1]):
            pairs.append((i, named[name]))
    return pairs


def _identity(item: Any) -> tuple[str, Any] | None:
    if isinstance(item, dict):
        for key in IDENTITIES:
            if isinstance(item.get(key), str | int):
                return key, item[key]
    return None


def staying(positions: Sequence[int]) -> list[int]:
    """The indexes of a longest increasing subsequence: of things that were reordered, the most that keep their order."""
    ends: list[int] = []  # for each length, the index at which the subsequence with the smallest end does
    before: list[int] = []
    for index, position in enumerate(positions):
        length = bisect_left(ends, position, key=positions.__getitem__)
        before.append(ends[length - 1] if length else -1)
        ends[length : length + 1] = [index]
    chain = []
    index = ends[-1] if ends else -1
    while index >= 0:
        chain.append(index)
        index = before[index]
    return chain[::-1]


class Fingerprints:
    """Equal values have equal fingerprints, others have not. Each object and list is looked at once; none may change or
    go while this lives."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}

    def __call__(self, value: Any) -> bytes:
        if type(value) is not dict and type(value) is not list:
            return _of_scalar(value)
        if id(value) not in self._known:
            self._learn(value)
        return self._known[id(value)]

    def _learn(self, value: Any) -> None:
        left = [value]
        while left:
            item = left[-1]
            members = item.values() if isinstance(item, dict) else item
            unknown = [one for one in members if type(one) in (dict, list) and id(one) not in self._known]
            if unknown:
                left += unknown
            else:
                self._known[id(item)] = self._of(left.pop())

    def _of(self, item: Any) -> bytes:
        if isinstance(item, dict):
            parts = [part for key in sorted(item) for part in (_of_scalar(key), self(item[key]))]
        else:
            parts = list(map(self, item))
        lengths = repr(list(map(len, parts))).encode()
        return (b"{" if isinstance(item, dict) else b"[") + _hash(b"".join([lengths, *parts]))


def _of_scalar(value: Any) -> bytes:
    kind = type(value)
    if kind is str:
        data: bytes = value.encode("utf-8", "surrogatepass")
        return b'"' + data if len(data) <= SHORT else b"'" + _hash(data)
    if value is None:
        return b"n"
    if kind is bool:
        return b"t" if value else b"f"
    if kind is float and not value.is_integer():
        return repr(value).encode()
    return b"#%x" % int(value)


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()
