"""Check the `prices` of a server's entry and turn them into Prices; every fault is noted, none is raised."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from orchestrator.price import FieldPrice, Price, field_path

Note = Callable[[str, str, str], None]  # a fault: its place below the entry, what is wrong, what to do

_AMOUNT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,18})?")
_AMOUNT_FAULT = ("must be an amount of dollars", 'write a decimal, for example "0.0025"; at most 999999')
_KEYS = ("perCall", "perSecond", "per")
_FIELD_KEYS = ("field", "meta", "price")


def read_prices(value: Any, note: Note) -> dict[str, Price]:
    """By tool, `*` for every other one. Amounts are texts or numbers, in dollars."""
    example = 'for example {"*": {"perCall": "0.002"}}'
    if not isinstance(value, dict):
        note("prices", "must be an object of prices by tool", example)
        return {}
    return {tool: _price(rule, f"prices/{_token(tool)}", note) for tool, rule in value.items()}


def _price(rule: Any, place: str, note: Note) -> Price:
    if not isinstance(rule, dict) or not rule:
        note(place, "must be an object with perCall, perSecond or per", 'a free tool is {"perCall": "0"}')
        return Price()
    _unknown(rule, _KEYS, place, note)
    return Price(
        per_call=_amount(rule, "perCall", place, note),
        per_second=_amount(rule, "perSecond", place, note),
        fields=tuple(_fields(rule, f"{place}/per", note)),
    )


def _fields(rule: Mapping[str, Any], place: str, note: Note) -> list[FieldPrice]:
    listed = rule.get("per", [])
    if not isinstance(listed, list) or ("per" in rule and not listed):
        note(place, "must be a list", 'for example [{"field": "usage.total_tokens", "price": "0.00001"}]')
        return []
    found = [_field(one, f"{place}/{index}", note) for index, one in enumerate(listed)]
    return [field for field in found if field is not None]


def _field(rule: Any, place: str, note: Note) -> FieldPrice | None:
    if not isinstance(rule, dict) or "price" not in rule or not ("field" in rule or "meta" in rule):
        note(place, "must be an object with price, and field or meta or both", "field is a path into the answer")
        return None
    _unknown(rule, _FIELD_KEYS, place, note)
    price = _amount(rule, "price", place, note)
    meta, text = rule.get("meta"), rule.get("field", "")
    if "meta" in rule and not (isinstance(meta, str) and meta):
        note(f"{place}/meta", "must be the name of an entry of _meta", "")
        return None
    path = field_path(text) if isinstance(text, str) and (text or "field" not in rule) else None
    if path is None:
        note(f"{place}/field", "is not a path", "for example usage.total_tokens, or items[0].count")
        return None
    written = text if meta is None else f"_meta {meta} {text}".strip()
    return FieldPrice(written, path, price, meta)


def _amount(rule: Mapping[str, Any], key: str, place: str, note: Note) -> Decimal:
    value = rule.get(key, "0")
    text = value if isinstance(value, str) else ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = format(Decimal(repr(value)), "f")
    if not _AMOUNT.fullmatch(text):
        note(f"{place}/{key}", *_AMOUNT_FAULT)
        return Decimal(0)
    return Decimal(text)


def _unknown(rule: Mapping[str, Any], known: tuple[str, ...], place: str, note: Note) -> None:
    for key in rule:
        if key not in known:
            note(f"{place}/{_token(key)}", "is not a key of a price", f"known keys: {', '.join(known)}")


def _token(text: str) -> str:
    return text.replace("~", "~0").replace("/", "~1")
