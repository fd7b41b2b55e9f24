"""How much work and memory an expression takes at most on the values at hand, reckoned before CEL begins.

CEL stops after 10,000 iterations, but not before: it copies the list that map and filter build once per item, texts may
double with every map, and every iteration may search a long text, all while it holds the interpreter's lock. So every
size is bounded from above along the tree, and what is beyond the limits never starts.

A size is a sum of bytes and of multiples of what loop variables hold (a Counter: "" for the bytes). Over a loop, what a
loop variable holds adds up to the list it runs over; so one long text in a list counts once, not once per item.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.cel_tree import Node

MAX_ITERATIONS = 10_000  # CEL's own limit for one evaluation
MAX_WORK = 50_000_000  # units of 13 ns: two thirds of a second on a core of 2024
MAX_MEMORY = 64 * 1024 * 1024
NODE = 64  # bytes of any value, without its text

_EVALUATION = 8  # units: one node of the tree, once
_FUNCTION = 400  # units: the slowest of the others, a time zone looked up
_PATTERN, _SEARCH = 9_000_000, 450  # units: the worst pattern there is, compiled; and per character it is tried on
_OPERATORS = frozenset({"_-_", "_*_", "_/_", "_%_", "_&&_", "_||_", "!_", "-_", "has", "@not_strictly_false"})
_CONVERSIONS = frozenset({"int", "uint", "double", "bool", "type", "timestamp", "duration"})
_COMPARISONS = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "startsWith", "endsWith"})
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")

Size = Counter[str]


@dataclass(frozen=True, slots=True)
class Bound:
    """Of a value: its bytes, its items; the largest item, and the most items, of anything in it.

    And of making it: the bytes that were spent, and the units of work.
    """

    size: Size = field(default_factory=lambda: Counter({"": NODE}))
    items: float = 0
    item: float = 0
    deep: float = 0
    spent: Size = field(default_factory=Counter)
    work: Size = field(default_factory=Counter)


class TooMuch(Exception):
    """Beyond a limit. The message says which."""


def check_work(tree: Node, values: Mapping[str, Bound]) -> None:
    """Raises TooMuch where the expression could take more than MAX_WORK or MAX_MEMORY."""
    reckoning = _Reckoning()
    result = reckoning.walk(tree, dict(values), 1)
    memory = reckoning.value(result.spent + result.size)
    if memory > MAX_MEMORY:
        raise TooMuch(f"up to {memory / 2**20:,.0f} MiB of memory, {MAX_MEMORY // 2**20} are allowed")
    if (work := reckoning.value(result.work)) > MAX_WORK:
        raise TooMuch(f"up to {work / MAX_WORK:,.1f} times the computing time that is allowed")


class _Reckoning:
    def __init__(self) -> None:
        self._largest: dict[str, float] = {"": 1}  # what each loop variable holds at most

    def value(self, size: Size) -> float:
        return sum(count * self._largest[name] for name, count in size.items())

    def walk(self, node: Node, scope: dict[str, Bound], times: float) -> Bound:
        """The bound of a node that is evaluated so many times in all; what it takes is for one time."""
        match node.kind:
            case "constant":
                return Bound(Counter({"": NODE + len(node.name.encode())}), work=Counter({"": _EVALUATION}))
            case "name":
                known = scope.get(node.name, Bound())
                return replace(known, spent=Counter(), work=Counter({"": _EVALUATION}))
            case "fold":
                return self._fold(node, scope, times)
        parts = [self.walk(part, scope, times) for part in node.parts]
        spent = _sum(part.spent for part in parts)
        work = _sum(part.work for part in parts) + Counter({"": _EVALUATION})
        match node.kind:
            case "select":
                return replace(_inside(parts[0]), spent=spent, work=work)
            case "list" | "struct":
                size = _sum(part.size for part in parts) + Counter({"": NODE})
                item = max([max(self.value(part.size), part.item) for part in parts], default=0)
                deep = max([max(part.items, part.deep) for part in parts], default=0)
                return Bound(size, len(parts), item, deep, spent + Counter({"": NODE * (1 + len(parts))}), work)
        made, more = self._call(node, parts)
        return replace(made, spent=spent + made.spent, work=work + more)

    def _call(self, node: Node, parts: list[Bound]) -> tuple[Bound, Size]:
        """The bound of what a function gives, and its work beside that of its operands."""
        whole = _sum(part.size for part in parts)
        match node.name, parts:
            case "_?_:_", [_, a, b]:
                size = a.size | b.size
                return Bound(size, max(a.items, b.items), max(a.item, b.item), max(a.deep, b.deep)), Counter()
            case "_[_]", [of, _]:
                return _inside(of), Counter()
            case "_+_", [a, b]:
                lists = any(part.kind == "list" for part in node.parts)
                copied = Counter({"": NODE * (a.items + b.items)}) if lists else whole
                item, deep = max(a.item, b.item), max(a.deep, b.deep)
                return Bound(whole, a.items + b.items, item, deep, spent=copied), _scaled(copied, 1 / 32)
            case "@in", [_, of]:
                return Bound(), _scaled(of.size, 1 / 32)
            case "contains", [text, sought]:
                return Bound(), _scaled(text.size, 1 / 8 + self.value(sought.size) / 700)
            case "matches", [text, _]:
                compiled, search = _pattern(node.parts[1])
                return Bound(), _scaled(text.size, search) + Counter({"": compiled})
            case name, [a, b] if name in _COMPARISONS:
                return Bound(), _scaled(min(a.size, b.size, key=self.value), 1 / 32)
            case "size", _:
                return Bound(), _scaled(whole, 1 / 32)
            case name, _ if name in _OPERATORS:
                return Bound(), Counter()
            case name, _ if name in _CONVERSIONS:
                return Bound(), Counter({"": _FUNCTION})
        # string, bytes, dyn and whatever else there is: at most a copy of what it is given
        size = whole + Counter({"": NODE})
        item, deep = max([part.item for part in parts], default=0), max([part.deep for part in parts], default=0)
        made = Bound(size, sum(part.items for part in parts), item, deep, spent=size)
        return made, _scaled(whole, 1 / 16) + Counter({"": _FUNCTION})

    def _fold(self, node: Node, scope: dict[str, Bound], times: float) -> Bound:
        """A macro: runs over a list, or over the keys of an object, and builds a list or one value."""
        over, start, condition, step, result = node.parts
        ran = self.walk(over, scope, times)
        begun = self.walk(start, scope, times)
        items = min(ran.items, MAX_ITERATIONS)
        rounds = min(items, MAX_ITERATIONS / times)  # on average, as the iterations of all its runs count together
        loop = f"{node.name} {len(self._largest)}"
        self._largest[loop] = max(ran.item, NODE)
        within = scope | {
            node.name: Bound(Counter({loop: 1}), _items(ran), ran.item, ran.deep),
            node.accumulator: Bound(Counter()),
        }
        asked = self.walk(condition, within, max(times * rounds, 1))
        made = self.walk(step, within, max(times * rounds, 1))

        def over_all(one: Size, runs: float) -> Size:
            fixed = Counter({name: count * runs for name, count in one.items() if name != loop})
            return fixed + _scaled(ran.size, one[loop])

        spent = ran.spent + begun.spent + over_all(asked.spent + made.spent, rounds)
        work = ran.work + begun.work + over_all(asked.work + made.work, rounds)
        built = Bound()
        if start.kind == "list":
            appended = rounds * items / 2  # each item copies the list that is there
            spent += Counter({"": 32 * appended})
            work += Counter({"": 2 * appended})
            size = over_all(made.size, items) + Counter({"": NODE})
            built = Bound(size, items, made.item, made.deep)
        end = self.walk(result, scope | {node.accumulator: built}, times)
        return replace(end, spent=spent + end.spent, work=work + end.work)


def _inside(of: Bound) -> Bound:
    """A member of it."""
    size = Counter({"": min(of.size[""], max(of.item, NODE))}) if of.size.keys() == {""} else of.size
    return Bound(size, _items(of), of.item, of.deep)


def _items(of: Bound) -> float:
    """Of a value inside: no more than anything in it has, and no more than fit into its size."""
    return min(of.deep, of.item / NODE)


def _sum(sizes: Iterable[Size]) -> Size:
    return sum(sizes, Counter())


def _scaled(size: Size, factor: float) -> Size:
    scaled: dict[str, Any] = {name: count * factor for name, count in size.items()}  # a Counter's type says int
    return Counter(scaled)


def _pattern(node: Node) -> tuple[float, float]:
    """Units to compile it, and per character that it is tried on. A pattern that is data may be the worst there is."""
    if node.kind != "constant":
        return _PATTERN, _SEARCH
    repeats = [int(most or least) + 1 for least, most in _REPEAT.findall(node.name)]
    times = 1
    for repeat in repeats:
        times = min(times * repeat if "){" in node.name else max(times, repeat), 1000)
    length = times * (len(node.name) + 200 * node.name.count("\\p") + 200 * node.name.count("\\P"))
    return min(100 + 25 * length, _PATTERN), min(1 + length / 5, _SEARCH)
