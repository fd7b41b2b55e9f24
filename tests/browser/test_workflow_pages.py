"""Registered workflows in a browser: the list, the grid of runs, versions, warnings, and starting a run."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from control_center.demo.make_demo_data import make
from control_center.keys import Trust
from orchestrator.outcome import Failed
from orchestrator.submit import Request, Submitter
from orchestrator.validate import validate
from persistence.executions import require_execution
from persistence.json_value import encode_json
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.browser.conftest import Site, accessibility_faults, serve
from tests.drive import drive
from tests.integration.test_api import make_key
from tests.workflows import FunctionTools, echo

SCRIPT = "<script>alert(1)</script>"
STEPS = [
    {"name": "fetch", "tool": "test.echo", "params": {"n": "${input.n}"}, "assign": "found"},
    {"name": "tell", "tool": "test.tell", "params": {"text": "${found}"}},
]
SCHEMA = {
    "type": "object",
    "required": ["n"],
    "additionalProperties": False,
    "properties": {
        "n": {"type": "integer", "description": f"the number {SCRIPT}"},
        "mode": {"enum": ["fast", "slow"], "default": "slow"},
        "dry": {"type": "boolean"},
        "tags": {"type": "array"},
    },
}


def register(pool: Pool, steps: Any = STEPS, **more: Any) -> UUID:
    document = {"name": "greet", "description": f"Says {SCRIPT}", "steps": steps, **more}
    found: UUID = Submitter(pool, None).register(validate(document))["id"]
    return found


def start(pool: Pool, tools: FunctionTools | None = None, **request: Any) -> UUID:
    wish = Request(**{"input": {"n": 7}, **request})
    execution_id = Submitter(pool, None).submit_named("greet", [wish])[1][0].execution_id
    if tools is not None:
        drive(pool, execution_id, tools)
    return execution_id


def good() -> FunctionTools:
    return FunctionTools(echo=echo, tell=echo)


def bad() -> FunctionTools:
    return FunctionTools(echo=echo, tell=lambda **_: Failed("tool_error", f"HTTP 503 {SCRIPT}"))


def catalogue(pool: Pool, *tools: str, digest: str = "one") -> None:
    """What the server `test` offers."""
    run(pool, "claim_refresh", {"server": "test", "repeat_unannotated": False, "ttl": 0})
    rows = [
        {"tool": tool, "repeatable": True, "hash": digest, "annotations": {"readOnlyHint": False}} for tool in tools
    ]
    run(pool, "store_tools", {"server": "test", "era": "x", "tools": encode_json(rows)})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_workflows_are_listed_with_their_newest_runs(site: Site, pool: Pool, scheme: str) -> None:
    register(pool)
    start(pool, good())
    start(pool, bad(), title=f"Bad {SCRIPT}")
    page = site.open("/ui/workflows", color_scheme=scheme)
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="greet"))
    expect(row).to_contain_text("enabled")
    expect(row).to_contain_text(f"Says {SCRIPT}")
    expect(row.get_by_role("link", name=f"Bad {SCRIPT}: failed")).to_have_text("✕")
    expect(row.get_by_role("link")).to_have_count(3)
    assert accessibility_faults(page) == []
    page.get_by_label("Search").fill("gre_")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("No workflow's name holds “gre_”")).to_be_visible()


def test_a_list_without_workflows_says_how_to_register_one(site: Site) -> None:
    page = site.open("/ui/workflows")
    expect(page.get_by_text(re.compile(r"curl --json .*/api/workflow/workflows"))).to_be_visible()
    page.goto(f"{site.address}/ui/workflows/nothing")
    expect(page.get_by_text("no workflow is named nothing")).to_be_visible()
    site.faults.clear()  # the 404


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_cell_of_the_grid_is_that_step_of_that_run(site: Site, pool: Pool, scheme: str) -> None:
    register(pool)
    start(pool, good(), title="First")
    failed = start(pool, bad(), title=f"Second {SCRIPT}")
    page = site.open("/ui/workflows/greet", color_scheme=scheme)
    cell = page.locator("svg.grid a.cell.failed")
    expect(cell).to_have_count(1)
    expect(cell.locator("text")).to_have_text("✕")
    assert f"tell of Second {SCRIPT}: failed" in (cell.locator("title").text_content() or "")
    assert (cell.get_attribute("href") or "").endswith(f"/ui/executions/{failed}/steps/1")
    expect(page.locator("svg.grid a")).to_have_count(2 * 3)
    expect(page.get_by_text("of these 2: success 50 %")).to_be_visible()
    row = page.get_by_label("Steps").get_by_role("row").filter(has=page.get_by_role("rowheader", name="tell"))
    expect(row).to_contain_text("50 %")
    assert accessibility_faults(page) == []
    cell.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("tell")


def test_the_grid_is_one_stop_of_the_tab_key_and_arrows_move_in_it(site: Site, pool: Pool) -> None:
    register(pool)
    for number in range(3):
        start(pool, good(), title=f"Run {number}")
    page = site.open("/ui/workflows/greet")
    page.get_by_role("link", name="Skip the grid").focus()
    page.keyboard.press("Tab")
    assert "tell of Run 2" in focused(page)
    page.keyboard.press("ArrowLeft")
    assert "tell of Run 1" in focused(page)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert focused(page).startswith("Run 1: completed")
    page.keyboard.press("Tab")
    assert "Run" not in focused(page)


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.querySelector?.('title')?.textContent ?? ''"))


def test_the_grid_follows_what_happens(site: Site, pool: Pool) -> None:
    register(pool)
    execution_id = start(pool)
    page = site.open("/ui/workflows/greet")
    expect(page.locator("#live")).to_have_text("● live")
    expect(page.locator("svg.grid a.cell.pending")).to_have_count(2)
    drive(pool, execution_id, good())
    expect(page.locator("svg.grid a.cell.completed")).to_have_count(2, timeout=10_000)


def test_versions_are_compared(site: Site, pool: Pool) -> None:
    register(pool)
    register(pool, [{**STEPS[0], "params": {"n": "${input.n}", "token": "hunter2"}}, STEPS[1]])
    register(pool, [STEPS[0]])
    page = site.open("/ui/workflows/greet")
    expect(page.get_by_role("heading", name="What became other from version 2 to 3")).to_be_visible()
    page.locator("select[name=version]").select_option("2")
    page.locator("select[name=against]").select_option("1")
    page.get_by_role("region", name="Definition").get_by_role("button", name="Show").click()
    expect(page.get_by_role("heading", name="What became other from version 1 to 2")).to_be_visible()
    expect(page.locator(".deltas")).to_contain_text("/steps/0/params/token")
    page.get_by_text("All of it").click()
    expect(page.locator("pre.payload")).to_contain_text('"n": "${input.n}"')
    expect(page.locator("body")).not_to_contain_text("hunter2")


def test_tools_that_are_gone_changed_or_held_are_warned_of(site: Site, pool: Pool) -> None:
    catalogue(pool, "echo", "tell")
    register(pool)
    page = site.open("/ui/workflows/greet")
    expect(page.get_by_role("heading", name="Newest runs")).to_be_visible()
    expect(page.get_by_label("Warnings")).to_have_count(0)
    catalogue(pool, "echo", digest="two")
    run(pool, "hold_calls", {"kind": "server", "name": "test", "actor": "ada", "reason": f"broken {SCRIPT}"})
    page.reload()
    warnings = page.get_by_label("Warnings")
    expect(warnings).to_contain_text("test.echo: its schema became another")
    expect(warnings).to_contain_text("test.tell: its server does not offer it")
    expect(warnings).to_contain_text("held by ada since")
    expect(warnings).to_contain_text(f"broken {SCRIPT}")
    assert accessibility_faults(page) == []


def test_disabling_is_confirmed_audited_and_undone(site: Site, pool: Pool) -> None:
    register(pool)
    page = site.open("/ui/workflows/greet")
    page.get_by_text("Disable…").click()
    page.get_by_role("button", name="Disable greet").click()
    expect(page.get_by_text("nothing of it is started", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Run…")).to_be_disabled()
    page.get_by_text("Enable…").click()
    page.get_by_role("button", name="Enable greet").click()
    expect(page.get_by_role("link", name="Run…")).to_be_visible()
    with pool.connection() as connection:
        rows = connection.execute("SELECT action, target FROM audit_log ORDER BY id").fetchall()
    assert [row["action"] for row in rows] == ["workflow.disable", "workflow.enable"]


def test_a_workflow_is_held_and_released(site: Site, pool: Pool) -> None:
    register(pool)
    page = site.open("/ui/workflows/greet")
    page.get_by_text("Hold…").click()
    page.get_by_label("Reason, for people").fill("the shop moves")
    page.get_by_role("button", name="Hold greet").click()
    expect(page.get_by_text("the shop moves")).to_be_visible()
    page.get_by_text("Release…").click()
    page.get_by_role("button", name="Release greet").click()
    expect(page.get_by_text("Hold…")).to_be_visible()
    assert run(pool, "list_holds") == []


def test_who_may_only_read_sees_why_the_buttons_are_off(settings: Settings, pool: Pool, browser: Browser) -> None:
    register(pool)
    with serve(settings, browser, trust=Trust(keys=True)) as site:
        page = site.open("/ui/sign-in")
        page.get_by_label("Key").fill(make_key(pool, "viewer"))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Executions")).to_be_visible()
        page.goto(f"{site.address}/ui/workflows/greet")
        for name in ("Run…", "Disable…", "Hold…"):
            expect(page.get_by_role("button", name=name)).to_be_disabled()
        expect(page.get_by_text("it needs the role operator")).to_be_visible()
        page.goto(f"{site.address}/ui/workflows/greet/run")
        expect(page.get_by_role("button", name="Run", exact=True)).to_be_disabled()
        expect(page.get_by_text("Not possible: it needs the role submitter")).to_be_visible()
        cookies = {one["name"]: one["value"] for one in page.context.cookies()}
        for path in ("workflows/greet/disable", "workflows/greet/run", "holds/workflow/greet"):
            refused = httpx.post(f"{site.address}/ui/{path}", data={"do": "hold"}, cookies=cookies)
            assert refused.status_code == 403, path
    assert run(pool, "list_holds") == []


def test_another_site_cannot_send_the_forms(site: Site, pool: Pool) -> None:
    register(pool)
    for path in ("/ui/workflows/greet/disable", "/ui/workflows/greet/run", "/ui/holds/workflow/greet"):
        refused = httpx.post(site.address + path, data={"do": "x"}, headers={"Origin": "http://evil.example"})
        assert refused.status_code == 403, path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_form_is_made_from_the_schema_and_starts_one_run(site: Site, pool: Pool, scheme: str) -> None:
    catalogue(pool, "echo", "tell")
    register(pool, inputSchema=SCHEMA)
    page = site.open("/ui/workflows/greet/run", color_scheme=scheme)
    expect(page.get_by_text(f"the number {SCRIPT}")).to_be_visible()
    expect(page.get_by_label("mode")).to_have_value('"slow"')
    expect(page.get_by_label("as a JSON object")).to_have_count(0)
    assert accessibility_faults(page) == []
    page.get_by_label("n (needed)").fill("9007199254740993")
    page.get_by_label("dry").select_option("true")
    page.get_by_label("tags").fill('["a"]')
    page.get_by_label("Title").fill(f"By form {SCRIPT}")
    page.get_by_label("Labels").fill("team: shop\nkind:test")
    page.get_by_role("button", name="What would it call?").click()
    expect(page.locator("#preview")).to_contain_text("It would call 2 tools")
    expect(page.locator("#preview")).to_contain_text("test.tell changes things")
    expect(page.get_by_label("n (needed)")).to_have_value("9007199254740993")
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url("**/ui/executions/*")
    row = require_execution(pool, UUID(page.url.rpartition("/")[2]))
    assert row["input"] == {"n": 2**53 + 1, "mode": "slow", "dry": True, "tags": ["a"]}
    assert (row["title"], row["labels"]) == (f"By form {SCRIPT}", {"team": "shop", "kind": "test"})


def test_faults_stand_beside_their_fields_and_what_was_typed_stays(site: Site, pool: Pool) -> None:
    register(pool, inputSchema=SCHEMA)
    page = site.open("/ui/workflows/greet/run")
    page.get_by_label("n (needed)").fill("seven")
    page.get_by_label("tags").fill("{")
    page.get_by_label("Labels").fill("nothing")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was started")
    expect(page.get_by_label("n (needed)")).to_have_value("seven")
    expect(page.get_by_label("n (needed)")).to_have_accessible_description(re.compile("not a number"))
    expect(page.get_by_label("tags")).to_have_accessible_description(re.compile("not JSON"))
    expect(page.get_by_label("Labels")).to_have_accessible_description(re.compile("NAME:VALUE"))
    assert accessibility_faults(page) == []
    site.faults.clear()  # the 422


def test_sending_a_form_twice_starts_one_run(site: Site, pool: Pool) -> None:
    register(pool)
    text = httpx.get(f"{site.address}/ui/workflows/greet/run").text
    key = re.search(r'name="key" value="(\w+)"', text)
    assert key is not None
    sent = {"key": key[1], "input": '{"n": 1}', "do": "start"}
    answers = [httpx.post(f"{site.address}/ui/workflows/greet/run", data=sent) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == 1
    other = httpx.post(f"{site.address}/ui/workflows/greet/run", data=sent | {"input": '{"n": 2}'})
    assert other.status_code == 422
    assert "started" in other.text
    assert f'value="{key[1]}"' not in other.text
    with pool.connection() as connection:
        assert len(connection.execute("SELECT id FROM workflow_executions").fetchall()) == 1


def test_without_a_schema_the_input_is_one_text_area_with_hints(site: Site, pool: Pool) -> None:
    register(pool)
    page = site.open("/ui/workflows/greet/run")
    expect(page.get_by_text("Its steps read input.n.")).to_be_visible()
    area = page.get_by_label("Input, a JSON object")
    area.fill("[1]")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(area).to_have_accessible_description(re.compile("must be a JSON object"))
    run(pool, "enable_workflow", {"name": "greet", "enabled": False})
    area.fill('{"n": 1}')
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("greet is disabled")
    expect(area).to_have_value('{"n": 1}')
    site.faults.clear()  # the 422 and the 409


def test_pages_of_a_made_up_week_are_small_narrow_and_quick(site: Site, pool: Pool, settings: Settings) -> None:
    make(pool, settings, 2, 30, 9)
    for path in ("/ui/workflows", "/ui/workflows/fix_issue", "/ui/workflows/release/run"):
        httpx.get(site.address + path)
        answer = httpx.get(site.address + path)
        assert answer.elapsed.total_seconds() < 0.5, path
        assert len(answer.content) < 150_000, path
        page = site.open(path, viewport={"width": 360, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_thousands_of_steps_are_shown_in_windows(site: Site, pool: Pool) -> None:
    many = [{"name": f"s{number}", "tool": "test.echo", "params": {}} for number in range(2000)]
    register(pool, many)
    start(pool)
    page = site.open("/ui/workflows/greet")
    expect(page.get_by_text("page 1 of 50")).to_be_visible()
    page.get_by_role("link", name="after ›").click()
    expect(page.get_by_role("rowheader", name="s40", exact=True)).to_be_visible()
