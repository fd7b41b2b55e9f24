"""Acting on many executions in a browser: counted, confirmed, followed, and written into the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, expect

from control_center.keys import Trust, create_key
from orchestrator.broker import StepBroker
from orchestrator.outcome import Failed
from orchestrator.work_off_jobs import work_off
from persistence.executions import require_execution
from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.browser.conftest import Site, accessibility_faults, serve
from tests.browser.test_executions_page import make_rows
from tests.drive import drive, submit
from tests.workflows import FunctionTools, sequence


@pytest.fixture
def broker(settings: Settings) -> Iterator[StepBroker]:
    opened = StepBroker(settings.redis_url, namespace=settings.namespace)
    yield opened
    opened.close()


def make_failed(pool: Pool, count: int, **request: object) -> list[UUID]:
    """Executions of ours that failed, oldest first; titles `broken 0` and so on."""
    found = [submit(pool, sequence(1), title=f"broken {number}", **request) for number in range(count)]
    for execution_id in found:
        drive(pool, execution_id, FunctionTools(echo=lambda **_: Failed("tool_error", "no")))
    return found


def make_many_failed(pool: Pool, count: int) -> None:
    """So many executions of ours that failed."""
    (first,) = make_failed(pool, 1)
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO workflow_executions (status, definition_hash, title, created_at, started_at)"
            " SELECT e.status, e.definition_hash, 'copy ' || n, e.created_at, e.started_at"
            " FROM workflow_executions e, generate_series(2, %s) n WHERE e.id = %s",
            (count, first),
        )


def work_off_all(pool: Pool, broker: StepBroker) -> None:
    while work_off(pool, broker, 30.0) == 0.0:
        pass


def audited(pool: Pool) -> list[tuple[str, str | None]]:
    with pool.connection() as connection:
        rows = connection.execute("SELECT action, target FROM audit_log ORDER BY id").fetchall()
    return [(row["action"], row["target"]) for row in rows]


def number(page: Page, words: str) -> str:
    """Beside these words."""
    return page.locator(".counts > div").filter(has_text=words).locator("dd").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_ticked_is_retried_after_a_question_and_followed(
    site: Site, pool: Pool, broker: StepBroker, scheme: str
) -> None:
    make_failed(pool, 2)
    waiting = submit(pool, sequence(1), title="runs")
    page = site.open("/ui/executions", color_scheme=scheme)
    for title in ("broken 0", "broken 1", "runs"):
        page.get_by_label(f"Tick {title}").check()
    expect(page.locator("#ticked")).to_have_text("3 ticked")
    page.get_by_role("button", name="Retry…").click()
    expect(page.get_by_role("heading", name="Retry 2 executions?")).to_be_visible()
    assert (number(page, "found"), number(page, "take it"), number(page, "are refused")) == ("3", "2", "1")
    assert accessibility_faults(page) == []
    page.get_by_label("Reason").fill("the service is back")
    page.get_by_role("button", name="Retry 2 executions").click()
    expect(page.get_by_role("heading", name="pending")).to_be_visible()
    assert accessibility_faults(page) == []
    work_off_all(pool, broker)
    expect(page.get_by_role("heading", name="completed")).to_be_visible(timeout=10_000)
    assert (number(page, "done"), number(page, "refused as"), number(page, "met an error")) == ("2", "1", "0")
    job = page.url.rpartition("/")[2]
    assert audited(pool) == [("executions.bulk", job)]
    assert run(pool, "get_job", {"id": job})[0]["reason"] == "the service is back"
    assert require_execution(pool, waiting)["status"] == "running"


def test_all_that_match_are_meant_and_a_typed_number_confirms(site: Site, pool: Pool, broker: StepBroker) -> None:
    make_many_failed(pool, 120)
    make_rows(pool, 5, "failed", triggered_by="another")
    page = site.open("/ui/executions?status=failed&window=24h&limit=20")
    page.get_by_label("all that match the filter").check()
    page.get_by_role("button", name="Retry…").click()
    expect(page.get_by_role("heading", name="Retry 120 executions?")).to_be_visible()
    assert (number(page, "found"), number(page, "are refused")) == ("125", "5")
    page.get_by_label("Type 120").fill("12")
    page.get_by_role("button", name="Retry 120 executions").click()
    expect(page.get_by_role("alert")).to_contain_text("type 120")
    assert audited(pool) == []
    site.faults.clear()  # the 422
    page.get_by_label("Type 120").fill("120")
    make_failed(pool, 1)  # after the question: not meant
    page.get_by_role("button", name="Retry 120 executions").click()
    expect(page.get_by_text("Type 120")).to_have_count(0)
    work_off_all(pool, broker)
    expect(page.get_by_role("heading", name="completed")).to_be_visible(timeout=10_000)
    assert (number(page, "done"), number(page, "refused as")) == ("120", "5")
    assert len(run(pool, "list_jobs", {"status": None, "at": None, "id": None, "limit": 9})) == 1


def test_what_a_text_finds_is_meant_by_its_ids(site: Site, pool: Pool, broker: StepBroker) -> None:
    make_failed(pool, 2)
    make_rows(pool, 3, "failed")
    page = site.open("/ui/executions?q=broken")
    page.get_by_label("all that match the filter").check()
    page.get_by_role("button", name="Retry…").click()
    page.get_by_role("button", name="Retry 2 executions").click()
    work_off_all(pool, broker)
    expect(page.get_by_role("heading", name="completed")).to_be_visible(timeout=10_000)
    assert number(page, "done") == "2"


def test_without_a_filter_all_is_refused_and_nothing_ticked_says_so(site: Site, pool: Pool) -> None:
    make_rows(pool, 2, "failed")
    page = site.open("/ui/executions")
    page.get_by_role("button", name="Retry…").click()
    expect(page.get_by_text("nothing was ticked")).to_be_visible()
    page.go_back()
    page.get_by_label("all that match the filter").check()
    page.get_by_role("button", name="Retry…").click()
    expect(page.get_by_text("which would mean every execution")).to_be_visible()
    site.faults.clear()  # a browser notes the 422


def test_none_that_take_it_have_no_button(site: Site, pool: Pool) -> None:
    make_failed(pool, 1)
    page = site.open("/ui/executions")
    page.get_by_label("Tick broken 0").check()
    page.get_by_role("button", name="Pause…").click()
    expect(page.get_by_text("None of them takes it")).to_be_visible()
    expect(page.locator("main").get_by_role("button")).to_have_count(0)


def test_two_are_compared_by_button_and_by_key(site: Site, pool: Pool) -> None:
    older, newer = make_failed(pool, 2)
    page = site.open("/ui/executions")
    compare = page.get_by_role("button", name="Compare")
    expect(compare).to_be_disabled()
    page.get_by_label("Tick this page").check()
    expect(compare).to_be_enabled()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.keyboard.press("c")
    expect(page).not_to_have_url(f"{site.address}/ui/executions")
    assert f"{site.address}/ui/compare?a={newer}&b={older}" in asked
    site.faults.clear()


def test_a_job_is_stopped_with_a_reason(site: Site, pool: Pool, broker: StepBroker) -> None:
    broken = make_failed(pool, 1)
    page = site.open("/ui/executions")
    page.get_by_label("Tick broken 0").check()
    page.get_by_role("button", name="Retry…").click()
    page.get_by_role("button", name="Retry 1 execution").click()
    page.get_by_text("Stop the job…").click()
    page.get_by_label("Reason").fill("not these")
    page.get_by_role("button", name="Stop the job").click()
    expect(page.get_by_text("Stopped by anonymous: not these")).to_be_visible()
    work_off_all(pool, broker)
    assert require_execution(pool, broken[0])["status"] == "failed"
    assert [action for action, _ in audited(pool)] == ["executions.bulk", "job.cancel"]


def test_a_viewer_sees_the_buttons_and_cannot_act(settings: Settings, browser: Browser, pool: Pool) -> None:
    (broken,) = make_failed(pool, 1)
    with serve(settings, browser, trust=Trust(keys=True)) as guarded:
        page = guarded.open("/ui/executions")
        page.get_by_label("Key").fill(create_key(pool, "vera", "viewer", None))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("button", name="Retry…")).to_be_disabled()
        expect(page.get_by_text("it needs the role operator, and vera has viewer")).to_be_visible()
        answer = page.request.post(
            f"{guarded.address}/ui/bulk",
            form={"action": "retry", "id": str(broken), "do": "confirm", "shown": "1"},
            headers={"Sec-Fetch-Site": "same-origin"},
        )
        assert answer.status == 403
        page.get_by_label("Tick broken 0").check()
        with page.expect_download():
            page.get_by_role("button", name="Export CSV").click()
    assert audited(pool) == []


def test_the_audit_log_is_listed_filtered_and_linked(site: Site, pool: Pool) -> None:
    (broken,) = make_failed(pool, 1)
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO audit_log (principal, action, target, detail) SELECT 'ada', 'workflow.disable', 'w' || n, NULL"
            " FROM generate_series(1, 60) n"
        )
    row = {
        "principal": "<b>eve</b>",
        "action": "execution.cancel",
        "target": str(broken),
        "detail": '{"reason": "why"}',
    }
    run(pool, "write_audit", row)
    page = site.open("/ui/audit")
    expect(page.locator("[data-row]")).to_have_count(50)
    first = page.locator("[data-row]").first
    expect(first).to_contain_text("<b>eve</b>")
    expect(first).to_contain_text("reason: why")
    assert accessibility_faults(page) == []
    page.get_by_role("link", name="older").click()
    expect(page.locator("[data-row]")).to_have_count(11)
    page.get_by_role("link", name="newest").click()
    page.get_by_label("Action").fill("execution.cancel")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("[data-row]")).to_have_count(1)
    page.locator("[data-row]").get_by_role("link", name=str(broken)[:8]).click()
    expect(page).to_have_url(f"{site.address}/ui/executions/{broken}")
    page.goto(f"{site.address}/ui/audit?principal=nobody")
    expect(page.get_by_text("Nobody did that")).to_be_visible()
