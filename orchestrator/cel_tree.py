"""The tree of a compiled CEL expression, macros unfolded, read from the bytes that CEL serialises it to.

The format is google/api/expr (cel.expr.CheckedExpr) in Protocol Buffers' wire format; only what says how much work an
expression is gets read, and the field numbers below are those of that format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

Kind = Literal["constant", "name", "select", "call", "list", "struct", "fold"]


@dataclass(frozen=True, slots=True)
class Node:
    """kind, then what it is about.

    name: of a variable or function, the text of a constant, of a fold its loop variable · parts: the operands; of a fold
    its range, start value, condition, step and result · accumulator: of a fold.
    """

    kind: Kind
    name: str = ""
    parts: tuple[Node, ...] = ()
    accumulator: str = ""


_NO_NODE = Node("constant")


def read_tree(serialised: bytes) -> Node:
    """The tree in what cel.Expression.serialize() gives."""
    checked = _messages(serialised, 2)[-1]  # google.protobuf.Any: 1 the type's URL, 2 the CheckedExpr
    return _node(_messages(checked, 4)[-1])


def _node(expression: bytes) -> Node:
    for number, value in _fields(expression):
        if number < 3 or isinstance(value, int):
            continue  # 2: its id
        match number:
            case 3:
                return Node("constant", _constant(value))
            case 4:
                return Node("name", _text(value, 1))
            case 5:
                asks_only = any(number == 3 and value for number, value in _fields(value))
                return Node("call" if asks_only else "select", "has", _nodes(value, 1))
            case 6:
                return Node("call", _text(value, 2), _nodes(value, 1, 3))
            case 7:
                return Node("list", parts=_nodes(value, 1))
            case 8:
                return Node("struct", parts=tuple([n for entry in _messages(value, 2) for n in _nodes(entry, 3, 4)]))
            case 9:
                parts = tuple([(*_nodes(value, field), _NO_NODE)[0] for field in (2, 4, 5, 6, 7)])
                return Node("fold", _text(value, 1), parts, _text(value, 3))
    return _NO_NODE


def _nodes(message: bytes, *numbers: int) -> tuple[Node, ...]:
    return tuple([_node(part) for number in numbers for part in _messages(message, number)])


def _constant(message: bytes) -> str:
    """Its text, if it is one: 6 string, 7 bytes."""
    return "".join(
        [v.decode("utf-8", "replace") for number, v in _fields(message) if number > 5 and isinstance(v, bytes)]
    )


def _text(message: bytes, number: int) -> str:
    return "".join([part.decode() for part in _messages(message, number)])


def _messages(message: bytes, number: int) -> list[bytes]:
    return [cast(bytes, value) for found, value in _fields(message) if found == number]


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field; numbers of fixed width are of no interest and come as 0."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
            case 2:
                length, at = _varint(message, at)
                yield tag >> 3, message[at : at + length]
                at += length
            case fixed:
                yield tag >> 3, 0
                at += 8 if fixed == 1 else 4


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
