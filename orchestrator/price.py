"""What a call costs: the operator's rules, worked out for one attempt, in nano-dollars (1e-9 USD).

Prices are exact decimals. An attempt's parts are summed exactly and rounded once, half up to the nano. Where a part cannot be
told, the whole attempt is unpriced: it is counted, and nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, TypeAlias

from orchestrator.builtin_tools import BUILTIN
from orchestrator.outcome import Cancelled, Failed, Outcome, Skipped, Succeeded
from orchestrator.paths import Path, PathNotFound, parse_path, resolve

NANOS: Final = 10**9
MOST_NANOS: Final = 10**15  # of one attempt, a million dollars: a greater figure is somebody's mistake
EVERY_OTHER: Final = "*"  # stands for the tools that have no price of their own
COST_LIMIT: Final = "cost_limit"
NOT_CALLED: Final = frozenset(  # definite failures of calls that came to no tool
    {"http_error", "invalid_params", "secret_not_found", "server_not_configured", "tool_not_allowed", "tool_not_found"}
)


@dataclass(frozen=True, slots=True)
class FieldPrice:
    """Dollars per unit of a number in the answer: at `path` of the output, or of the `_meta` entry `meta`. `written`: how
    messages name it."""

    written: str
    path: Path
    price: Decimal
    meta: str | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """What one call of a tool costs, in dollars: the sum of its parts."""

    per_call: Decimal = Decimal(0)
    per_second: Decimal = Decimal(0)
    fields: tuple[FieldPrice, ...] = ()

    @property
    def known_nanos(self) -> int:
        """What a call is sure to cost before it is made."""
        return round_half_up(Fraction(self.per_call) * NANOS)


Prices: TypeAlias = Mapping[str, Price]  # of a server, by tool; EVERY_OTHER for the rest


@dataclass(frozen=True, slots=True)
class Cost:
    """What an attempt cost, in nano-dollars. None: unpriced, and `why`."""

    nanos: int | None
    why: str = ""


def price_of(prices: Prices, tool: str) -> Price | None:
    """The tool's own price, or the one of every other."""
    return prices.get(tool, prices.get(EVERY_OTHER))


def cost_of(outcome: Outcome, server: str, tool: str, prices: Prices, seconds: float, *, limited: bool) -> Cost | None:
    """What the attempt that came to `outcome` cost; None if it is not counted: no tool was called, or neither has its server
    any price nor (`limited`) its execution a limit. `seconds`: how long the call took."""
    if server == BUILTIN or not (prices or limited) or not _called(outcome):
        return None
    price = price_of(prices, tool)
    if price is None:
        return Cost(None, "no price is configured")
    output: Any = None
    meta: Mapping[str, Any] | None = None
    match outcome:
        case Cancelled():
            return Cost(None, "the call was cut short")
        case Succeeded(output=output, meta=meta):
            pass
        case Failed(output=output):
            pass
    total = Fraction(price.per_call) + Fraction(price.per_second) * Fraction(max(round(seconds * 1e6), 0), 10**6)
    for field in price.fields:
        units = _units(field, output, meta)
        if units is None:
            return Cost(None, f"the answer has no amount at {field.written}")
        total += Fraction(field.price) * units
    nanos = round_half_up(total * NANOS)
    return Cost(nanos) if nanos <= MOST_NANOS else Cost(None, f"{usd(nanos)} USD for one call cannot be right")


def _called(outcome: Outcome) -> bool:
    match outcome:
        case Skipped() | Cancelled(failure="not_executed"):
            return False
        case Failed(kind=kind, failure=failure):
            return failure == "unknown" or (failure == "definite" and kind not in NOT_CALLED)
    return True


def _units(field: FieldPrice, output: Any, meta: Mapping[str, Any] | None) -> Fraction | None:
    """The number as it was written; None for what is none, or less than nothing."""
    found = output
    if field.meta is not None:
        found = (meta or {}).get(field.meta)
    try:
        number = resolve(field.path, {field.path.root: found})
    except PathNotFound:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float) or number < 0:
        return None
    if isinstance(number, float):
        return Fraction(Decimal(repr(number))) if math.isfinite(number) else None
    return Fraction(number)


def field_path(text: str) -> Path | None:
    """The path `text` below an answer: `usage.total_tokens`, `[0].tokens`; empty for the answer itself. None: it is none."""
    return parse_path("answer" + (f".{text}" if text and not text.startswith("[") else text))


def round_half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def nanos_of(amount: str | int | float) -> int:
    """Dollars, as a definition has them, in nano-dollars."""
    return round_half_up(Fraction(Decimal(str(amount))) * NANOS)


def usd(nanos: int) -> str:
    """Dollars as an exact decimal, with cents at least: 0.00, 1.50, 0.000000001."""
    whole, rest = divmod(nanos, NANOS)
    digits = f"{rest:09d}".rstrip("0")
    return f"{whole}.{digits:0<2}"


def over_limit(known_nanos: int, spent_nanos: int, max_nanos: int) -> Failed:
    """The end of an attempt whose call would cross config.maxCost."""
    call = f", and this call costs {usd(known_nanos)} USD or more" if known_nanos else ""
    told = f"{usd(spent_nanos)} of {usd(max_nanos)} USD (config.maxCost) are spent{call}: the tool was not called"
    return Failed(COST_LIMIT, told, "definite")


def has_room(known_nanos: int, spent_nanos: int, max_nanos: int) -> bool:
    """Whether a call may be made. reserve_cost in schema.sql says the same for executions in the database."""
    return spent_nanos < max_nanos and spent_nanos + known_nanos <= max_nanos
