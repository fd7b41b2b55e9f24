"""What calls cost: the rules as the operator writes them, and their value for one attempt."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.outcome import Cancelled, Failed, Outcome, Skipped, Succeeded
from orchestrator.plan import plan
from orchestrator.price import (
    MOST_NANOS,
    NANOS,
    Cost,
    FieldPrice,
    Price,
    cost_of,
    field_path,
    has_room,
    nanos_of,
    round_half_up,
    usd,
)
from orchestrator.run_in_memory import run_in_memory
from orchestrator.validate import validate
from persistence.errors import InvalidDefinition
from tests.unit.test_mcp_config import fault_lines, write
from tests.workflows import FunctionTools, echo, sequence
from workers.mcp_client import McpClient, load_servers
from workers.secrets import Secrets
from workers.tools import Tools

URL = {"url": "http://localhost:1/"}
PER_TOKEN = {"per": [{"field": "usage.tokens", "price": "0.000001"}]}


def read(folder: Path, prices: Any) -> Any:
    return load_servers(write(folder, {"s": URL | {"prices": prices}}), {})["s"].prices


def priced(folder: Path, prices: Any, outcome: Outcome, seconds: float = 0.0, tool: str = "t") -> Cost | None:
    return cost_of(outcome, "s", tool, read(folder, prices), seconds, limited=False)


def nanos(cost: Cost | None) -> int | None:
    assert cost is not None
    return cost.nanos


# ------------------------------------------------------------------------------------------------------ the file


def test_prices_are_read_as_they_are_written(tmp_path: Path) -> None:
    """Texts and numbers, exactly; a path below the output, below an entry of _meta, or that entry itself."""
    prices = {
        "search": {"perCall": "0.002", "perSecond": 0.1},
        "*": {
            "per": [
                {"field": "items[0].n", "price": "3"},
                {"meta": "example.com/cost", "price": 1},
                {"meta": "u", "field": "n", "price": "0.5"},
            ]
        },
    }
    paths = {text: field_path(text) for text in ("items[0].n", "", "n")}
    assert all(paths.values())
    assert read(tmp_path, prices) == {
        "search": Price(Decimal("0.002"), Decimal("0.1")),
        "*": Price(
            fields=(
                FieldPrice("items[0].n", paths["items[0].n"], Decimal(3)),  # type: ignore[arg-type]
                FieldPrice("_meta example.com/cost", paths[""], Decimal(1), "example.com/cost"),  # type: ignore[arg-type]
                FieldPrice("_meta u n", paths["n"], Decimal("0.5"), "u"),  # type: ignore[arg-type]
            )
        ),
    }


@pytest.mark.parametrize(
    ("prices", "place", "told"),
    [
        ([], "", "must be an object of prices by tool"),
        ({"t": "0.1"}, "/t", "must be an object with perCall"),
        ({"t": {}}, "/t", "must be an object with perCall"),
        ({"t": {"percall": "1"}}, "/t/percall", "is not a key of a price"),
        ({"a/b": {"perCall": "-1"}}, "/a~1b/perCall", "must be an amount"),
        *[
            ({"t": {"perCall": bad}}, "/t/perCall", "must be an amount")
            for bad in ("NaN", "Infinity", "1e3", "", " 1", "1\n", "٣", "1000000", ".5", None, True, -0.5, 1e300, [])
        ],
        ({"t": {"perSecond": "x"}}, "/t/perSecond", "must be an amount"),
        ({"t": {"per": {}}}, "/t/per", "must be a list"),
        ({"t": {"per": []}}, "/t/per", "must be a list"),
        ({"t": {"per": [5]}}, "/t/per/0", "must be an object with price"),
        ({"t": {"per": [{"field": "a"}]}}, "/t/per/0", "must be an object with price"),
        ({"t": {"per": [{"price": "1"}]}}, "/t/per/0", "must be an object with price"),
        ({"t": {"per": [{"field": "a", "price": "1", "x": 1}]}}, "/t/per/0/x", "is not a key of a price"),
        ({"t": {"per": [{"field": "a", "price": "-1"}]}}, "/t/per/0/price", "must be an amount"),
        *[
            ({"t": {"per": [{"field": bad, "price": "1"}]}}, "/t/per/0/field", "is not a path")
            for bad in ("", "a b", "a..b", "a + b", "$.a", "[x]", 5, None)
        ],
        *[
            ({"t": {"per": [{"meta": bad, "price": "1"}]}}, "/t/per/0/meta", "must be the name of an entry")
            for bad in ("", 5, None)
        ],
    ],
)
def test_a_price_that_is_none_is_a_fault_with_its_place(tmp_path: Path, prices: Any, place: str, told: str) -> None:
    """Nobody finds out from a bill."""
    _, line = fault_lines(write(tmp_path, {"s": URL | {"prices": prices}}))
    assert line.startswith(f"  /mcpServers/s/prices{place}")
    assert told in line


# ------------------------------------------------------------------------------------------------------ one attempt


def test_the_parts_of_a_price_are_added(tmp_path: Path) -> None:
    """Per call, per second, per field, per entry of _meta."""
    prices = {
        "t": {
            "perCall": "0.01",
            "perSecond": "0.002",
            "per": [{"field": "usage.tokens", "price": "0.000001"}, {"meta": "c/x", "price": "1"}],
        }
    }
    outcome = Succeeded({"usage": {"tokens": 2000}}, {"c/x": 0.25})
    assert nanos(priced(tmp_path, prices, outcome, 1.5)) == nanos_of("0.265")


def test_a_tool_without_a_price_of_its_own_has_that_of_every_other(tmp_path: Path) -> None:
    """Or none, and then it is counted."""
    assert nanos(priced(tmp_path, {"t": {"perCall": "1"}, "*": {"perCall": "2"}}, Succeeded(1))) == NANOS
    assert nanos(priced(tmp_path, {"*": {"perCall": "2"}}, Succeeded(1))) == 2 * NANOS
    assert priced(tmp_path, {"other": {"perCall": "2"}}, Succeeded(1)) == Cost(None, "no price is configured")


@pytest.mark.parametrize("found", [None, "5", True, -1, float("inf"), {}, 10**16])
def test_a_number_that_is_not_there_is_not_guessed(tmp_path: Path, found: Any) -> None:
    """The parts that are known count as little as the rest."""
    cost = priced(tmp_path, {"t": {"perCall": "1"} | PER_TOKEN}, Succeeded({"usage": {"tokens": found}}))
    assert cost is not None
    assert cost.nanos is None
    assert "usage.tokens" in cost.why or found == 10**16
    assert nanos(priced(tmp_path, {"t": PER_TOKEN}, Succeeded("text"))) is None
    assert nanos(priced(tmp_path, {"t": {"per": [{"meta": "x", "price": "1"}]}}, Succeeded({"x": 1}))) is None


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Failed("tool_error", "", "definite"), NANOS),
        (Failed("rpc_error", "", "definite"), NANOS),
        (Failed("timeout", "", "unknown"), NANOS),
        (Failed("http_error", "", "unknown"), NANOS),
        (Failed("http_error", "", "definite"), "nothing"),
        (Failed("rate_limited", "", "not_executed"), "nothing"),
        (Failed("tool_not_found", "", "definite"), "nothing"),
        (Failed("secret_not_found", "", "definite"), "nothing"),
        (Skipped(), "nothing"),
        (Cancelled("stop"), None),
        (Cancelled("stop", "not_executed"), "nothing"),
    ],
)
def test_what_an_attempt_came_to_decides_whether_it_cost(tmp_path: Path, outcome: Outcome, expected: Any) -> None:
    """A call that was made, or may have been, has its price; one that was cut short has none that anybody knows."""
    cost = priced(tmp_path, {"t": {"perCall": "1"}}, outcome)
    assert (cost.nanos if cost is not None else "nothing") == expected


def test_a_failed_call_whose_price_needs_its_answer_is_unpriced(tmp_path: Path) -> None:
    """Unless the failure came with one."""
    assert nanos(priced(tmp_path, {"t": PER_TOKEN}, Failed("tool_error", ""))) is None
    failed = Failed("tool_error", "", output={"usage": {"tokens": 5}})
    assert nanos(priced(tmp_path, {"t": PER_TOKEN}, failed)) == 5000


def test_nothing_is_counted_where_nobody_asked(tmp_path: Path) -> None:
    """Servers without prices, and builtin always; with a limit the former are counted."""
    assert cost_of(Succeeded(1), "s", "t", {}, 1, limited=False) is None
    assert cost_of(Succeeded(1), "s", "t", {}, 1, limited=True) == Cost(None, "no price is configured")
    assert cost_of(Succeeded(1), "builtin", "echo", {"*": Price(Decimal(1))}, 1, limited=True) is None


amounts = st.decimals(0, 999, places=9)


@given(amounts, amounts, st.lists(st.tuples(amounts, st.integers(0, 10**6)), max_size=4), st.integers(0, 10**6))
def test_sums_are_exact_and_rounded_once(
    call: Decimal, second: Decimal, fields: list[tuple[Decimal, int]], micros: int
) -> None:
    """Half up, to the nano."""
    parts = tuple(FieldPrice(f"n{i}", field_path(f"n{i}"), price) for i, (price, _) in enumerate(fields))  # type: ignore[arg-type]
    output = {f"n{i}": units for i, (_, units) in enumerate(fields)}
    cost = cost_of(Succeeded(output), "s", "t", {"t": Price(call, second, parts)}, micros / 1e6, limited=False)
    exact = Fraction(call) + Fraction(second) * Fraction(micros, 10**6)
    exact += sum((Fraction(price) * units for price, units in fields), Fraction(0))
    assert cost is not None
    if cost.nanos is None:
        assert exact * NANOS > MOST_NANOS
    else:
        assert Fraction(-1, 2) <= cost.nanos - exact * NANOS - Fraction(0) <= Fraction(1, 2)
        assert cost.nanos == round_half_up(exact * NANOS)


@given(st.decimals(0, 10**6, places=6))
@example(Decimal("0.0000035"))  # the float is a little less
def test_numbers_of_an_answer_are_taken_as_they_are_written(units: Decimal) -> None:
    """JSON makes a float of 0.1; what it costs is a tenth."""
    answered = json.loads(json.dumps({"n": float(units)}))
    price = Price(fields=(FieldPrice("n", field_path("n"), Decimal("0.001")),))  # type: ignore[arg-type]
    cost = cost_of(Succeeded(answered), "s", "t", {"t": price}, 0, limited=False)
    assert nanos(cost) == round_half_up(Fraction(units) * 10**6)


def test_halves_go_up() -> None:
    assert [round_half_up(Fraction(value, 10)) for value in (4, 5, 14, 15, 25)] == [0, 1, 1, 2, 3]


@given(st.integers(0, 10**18))
def test_dollars_are_shown_exactly(amount: int) -> None:
    """With cents at least."""
    assert nanos_of(usd(amount)) == amount
    assert len(usd(amount).split(".")[1]) >= 2


def test_dollars_are_shown_as_people_write_them() -> None:
    assert [usd(amount) for amount in (0, 1, NANOS, 1_500_000_000, 2_100_000)] == [
        "0.00",
        "0.000000001",
        "1.00",
        "1.50",
        "0.0021",
    ]


def test_prices_are_worked_out_before_anything_is_redacted(tmp_path: Path) -> None:
    """The caller hands on what the operator configured; of a server that is not there, nothing."""
    servers = load_servers(write(tmp_path, {"s": URL | {"prices": {"t": {"perCall": "1"}}}}), {})
    with McpClient(servers) as client:
        tools = Tools(client, Secrets({}), lambda *_: None, 1000)
        assert tools.prices("s") == {"t": Price(Decimal(1))}
        assert tools.prices("absent") == tools.prices("builtin") == {}


# ------------------------------------------------------------------------------------------------------ config.maxCost


@pytest.mark.parametrize("amount", [1, 0.5, "0.50", "0.000000001", 999_999, 1e-9])
def test_a_limit_is_an_amount(amount: Any) -> None:
    planned = plan(validate({"steps": [{"name": "a", "tool": "b.c", "params": {}}], "config": {"maxCost": amount}}))
    assert planned.max_cost_nanos == round(Decimal(str(amount)) * NANOS)


@pytest.mark.parametrize("amount", [0, "0", "0.00", -1, "-1", "1e3", "x", True, None, 1e6, "1000000", "1\n", []])
def test_a_limit_that_is_none_is_a_fault(amount: Any) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        sequence(1, config={"maxCost": amount})
    (fault,) = caught.value.faults
    assert fault.pointer == "/config/maxCost"


def test_room_is_what_neither_spent_nor_the_next_call_takes() -> None:
    """Up to the limit, not beyond; nothing more once it is reached."""
    assert has_room(5, 5, 10)
    assert not has_room(6, 5, 10)
    assert has_room(0, 9, 10)
    assert not has_room(0, 10, 10)


def test_without_a_database_the_limit_holds_too() -> None:
    """Three calls fit; the fourth is not made."""
    tools = FunctionTools(echo=echo)
    tools.priced = {"test": {"echo": Price(Decimal("0.03"))}}
    result = run_in_memory(sequence(5, config={"maxCost": "0.10"}), {"input": {"n": 1}}, tools)
    assert (result.status, tools.calls["echo"]) == ("failed", 3)
    told = "0.09 of 0.10 USD (config.maxCost) are spent, and this call costs 0.03 USD or more: the tool was not called"
    assert result.error == f"step step_3: {told}"
    assert (result.cost_nanos, result.unpriced_calls) == (90_000_000, 0)
    assert [step.cost_nanos for step in result.steps] == [30_000_000] * 3 + [None] * 2
