"""Two executions beside each other in a browser."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from playwright.sync_api import expect

from orchestrator.outcome import Failed
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.pool import Pool
from tests.browser.conftest import Site, accessibility_faults
from tests.drive import drive, submit
from tests.workflows import FunctionTools, echo, sequence

SCRIPT = "<script>alert(1)</script>"
EXACT = 2**53 + 1


def ran(pool: Pool, answer: Any = echo, steps: int = 3, **request: Any) -> UUID:
    execution_id = submit(pool, sequence(steps), **request)
    drive(pool, execution_id, FunctionTools(echo=answer))
    return execution_id


def other(**arguments: Any) -> Any:
    """As `echo`, but for the second step."""
    return {**arguments, "note": SCRIPT, "exact": EXACT, "token": "hunter2"} if arguments["value"] == 1 else arguments


def failing(**arguments: Any) -> Any:
    return Failed("tool_error", f"HTTP 503 {SCRIPT}") if arguments["value"] == 1 else arguments


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_divergence_is_named_and_scripts_are_text(site: Site, pool: Pool, scheme: str) -> None:
    a, b = ran(pool, title=f"A {SCRIPT}"), ran(pool, other)
    page = site.open(f"/ui/compare?a={a}&b={b}", color_scheme=scheme)
    expect(page.locator(".sentence")).to_contain_text("First divergence at step step_1, in the output")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="step_1"))
    expect(row).to_contain_text(SCRIPT)
    expect(row).to_contain_text(str(EXACT))
    expect(page.get_by_label("A", exact=True)).to_contain_text(f"A {SCRIPT}")
    expect(page.locator("body")).not_to_contain_text("hunter2")
    assert accessibility_faults(page) == []
    page.get_by_role("link", name="to that step").click()
    assert page.url.endswith("#step-1")


def test_only_differences_and_swap_live_in_the_address(site: Site, pool: Pool) -> None:
    a, b = ran(pool), ran(pool, failing)
    page = site.open(f"/ui/compare?a={a}&b={b}")
    expect(page.get_by_role("rowheader")).to_have_count(3)
    page.get_by_role("link", name="only differences").click()
    expect(page.get_by_role("rowheader")).to_have_count(2)
    assert f"a={a}&b={b}&only=1" in page.url
    page.get_by_role("link", name="Swap").click()
    expect(page.get_by_label("A", exact=True)).to_contain_text("failed")
    assert f"a={b}&b={a}&only=1" in page.url
    page.get_by_role("link", name="only differences").click()
    expect(page.get_by_role("rowheader")).to_have_count(3)


def test_the_previous_good_run_is_one_click_away(site: Site, pool: Pool) -> None:
    good, bad = ran(pool), ran(pool, failing)
    page = site.open("/ui/compare")
    page.get_by_label("B, what is looked at").fill(str(bad)[:30])
    page.get_by_label("the previous good run").check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_label("A", exact=True)).to_contain_text(str(good)[:8])
    expect(page.locator(".sentence")).to_contain_text("in how it ended")


def test_what_cannot_be_compared_is_told_and_what_was_typed_stays(site: Site, pool: Pool) -> None:
    alone, nobody = ran(pool), uuid4()
    told = {
        f"a={alone}&b={nobody}": "no execution",
        f"a={alone}&b={alone}": "the same execution",
        f"b={alone}&previousGood=1": "no execution of the same workflow has completed",
        f"a={alone}": "two executions are needed",
        f"a=xyz&b={alone}": "is not an execution id",
    }
    page = site.open("/ui/compare")
    for query, words in told.items():
        page.goto(f"{site.address}/ui/compare?{query}")
        expect(page.get_by_role("alert")).to_contain_text(words)
    expect(page.get_by_label("A, what it is compared with")).to_have_value("xyz")
    assert accessibility_faults(page) == []
    site.faults.clear()  # a browser notes the 404 and 422 on its console


def test_a_long_difference_is_cut_with_a_way_to_all_of_it(site: Site, pool: Pool) -> None:
    a = ran(pool)
    b = ran(pool, lambda **given: {**given, "text": "x" * 50_000})
    page = site.open(f"/ui/compare?a={a}&b={b}")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="step_0"))
    expect(row.get_by_role("link", name="in B")).to_have_attribute(
        "href", f"{site.address.partition('/x')[1] and '/x/flow'}/ui/executions/{b}/steps/0"
    )
    assert len(httpx.get(f"{site.address}/ui/compare?a={a}&b={b}").content) < 20_000


def test_steps_that_only_one_has_and_another_definition(site: Site, pool: Pool) -> None:
    changed = validate(
        {"name": "sequence", "steps": [{"name": "step_0", "tool": "test.echo", "params": {"value": 0, "more": 1}}]}
    )
    b = Submitter(pool, None).submit(changed, [Request(input={"n": 7})])[0].execution_id
    drive(pool, b, FunctionTools(echo=echo))
    page = site.open(f"/ui/compare?a={ran(pool)}&b={b}")
    expect(page.get_by_text("another definition")).to_be_visible()
    expect(page.get_by_text("0 same, 1 changed, 0 only in B, 2 only in A")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="step_2")).to_contain_text("only in A")


def test_thousands_of_steps_come_in_pages_within_their_time(site: Site, pool: Pool) -> None:
    a, b = submit(pool, sequence(5000)), submit(pool, sequence(5000), input={"n": 8})
    with pool.connection() as connection:
        connection.execute(
            "UPDATE workflow_steps SET status = 'completed', output = %s WHERE execution_id = %s AND step_index = 4000",
            (json.dumps({"late": True}), b),
        )
    address = f"{site.address}/ui/compare?a={a}&b={b}"
    httpx.get(address)
    answer = httpx.get(address, timeout=30)
    assert answer.elapsed.total_seconds() < 2, answer.elapsed
    page = site.open(f"/ui/compare?a={a}&b={b}&only=1")
    expect(page.get_by_role("rowheader", name="step_4000")).to_be_visible()
    page.goto(address)
    expect(page.get_by_text("page 1 of 10")).to_be_visible()


def test_a_comparison_is_usable_on_a_narrow_screen(site: Site, pool: Pool) -> None:
    page = site.open(f"/ui/compare?a={ran(pool)}&b={ran(pool, other)}", viewport={"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_comparison_follows_what_still_runs(site: Site, pool: Pool) -> None:
    a, b = ran(pool), submit(pool, sequence(3))
    page = site.open(f"/ui/compare?a={a}&b={b}")
    expect(page.get_by_label("B", exact=True)).to_contain_text("running")
    expect(page.locator("#live")).to_have_text("● live")
    drive(pool, b, FunctionTools(echo=echo))
    expect(page.get_by_label("B", exact=True)).to_contain_text("completed", timeout=10_000)
