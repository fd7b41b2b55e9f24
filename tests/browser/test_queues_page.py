"""Queues and workers in a browser: what waits, who works, what is away, and what is held back."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from control_center.keys import Trust, create_key
from control_center.look_at_queues import look_at_queues
from orchestrator.broker import StepBroker
from persistence.pool import Pool, open_pool, run
from persistence.settings import Settings
from tests.browser.conftest import Site, accessibility_faults, serve
from tests.drive import submit
from tests.outage import own_servers
from tests.workflows import sequence

BAD = "<script>alert(1)</script>"
BUDGET = 1.5  # seconds on screen, also while Redis is away


def change(pool: Pool, text: str, *parameters: object) -> None:
    with pool.connection() as connection:
        connection.execute(text.encode(), parameters)


def worker(pool: Pool, host: str = "here", silent: float = 0) -> UUID:
    worker_id = uuid4()
    run(pool, "renew_lease", {"worker_id": worker_id, "role": "worker", "hostname": host, "pid": 7, "threads": 4})
    change(pool, "UPDATE workers SET heartbeat_at = now() - %s * interval '1 second' WHERE id = %s", silent, worker_id)
    return worker_id


def row_of(page: Page, text: str) -> list[str]:
    return page.get_by_role("row").filter(has_text=text).locator("td, th").all_inner_texts()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_waits_and_who_works_is_told(site: Site, pool: Pool, scheme: str) -> None:
    """Two ready steps, one of them in the hands of a worker; one is delayed; one worker has fallen silent."""
    busy = worker(pool, BAD)
    worker(pool, "far", silent=45)
    for _ in range(4):
        submit(pool, sequence(3))
    change(pool, "UPDATE workflow_steps SET next_run_at = now() - interval '50 seconds' WHERE step_index = 0")
    steps = [row["id"] for row in run(pool, "dispatch_steps", {"limit": 9})] or []
    assert steps == []
    with pool.connection() as connection:
        (first, later, *_) = connection.execute(
            "SELECT id FROM workflow_steps WHERE step_index = 0 ORDER BY id"
        ).fetchall()
    run(pool, "claim_steps", {"step_ids": [first["id"]], "attempts": [0], "worker_id": busy, "timeout_ms": 1000})
    text = "UPDATE workflow_steps SET next_run_at = now() + interval '1 hour', dispatch_after = now() + interval '1 hour' WHERE id = %s"
    change(pool, text, later["id"])

    page = site.open("/ui/queues", color_scheme=scheme)
    queue = row_of(page, "steps")
    assert queue[1] == "2"
    assert queue[2].endswith(("50.0 s", "50.1 s", "51.0 s", "50.5 s")) or "⚠" in queue[2]
    assert queue[3].startswith("1 next in 59 min") or queue[3].startswith("1 next in 1 h")
    assert queue[4:8] == ["1 / 4", "12", "0", "▲ never"]
    assert queue[8] == "1 alive, ⚠ 1 silent"
    workers = page.get_by_role("region", name="Workers")
    alive = workers.get_by_role("row").filter(has_text=BAD)
    expect(alive).to_contain_text("✓ alive")
    assert [cell.strip() for cell in alive.get_by_role("cell").all_inner_texts()][3:7] == ["7", "worker", "1", "4"]
    expect(workers.get_by_role("row").filter(has_text="far")).to_contain_text("⚠ silent")
    expect(page.get_by_text("without lease, message or timer")).to_be_visible()
    expect(page.get_by_text("in the database and in the code")).to_be_visible()
    assert accessibility_faults(page) == []


def test_a_queue_without_workers_says_how_to_start_one(site: Site, pool: Pool) -> None:
    submit(pool, sequence(1))
    page = site.open("/ui/queues")
    expect(page.get_by_text("No worker is alive, and 1 step waits.")).to_be_visible()
    expect(page.locator(".empty code").first).to_have_text("afu9 worker")


def test_a_narrow_screen_is_enough(site: Site, pool: Pool) -> None:
    """Nothing is wider than 360 pixels; wide tables scroll inside of themselves."""
    worker(pool, "a-host-with-a-rather-long-name.example.com")
    run(pool, "hold_calls", {"kind": "tool", "name": "x" * 200, "actor": "ada", "reason": "y" * 200})
    page = site.open("/ui/queues", viewport={"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert accessibility_faults(page) == []


def test_the_page_follows_what_is_submitted(site: Site, pool: Pool) -> None:
    page = site.open("/ui/queues")
    expect(page.locator("#live")).to_have_text("● live")
    page.evaluate("window.before = true")
    submit(pool, sequence(1))
    expect(page.get_by_text("and 1 step waits")).to_be_visible(timeout=10_000)
    worker(pool, "newcomer")  # nobody tells of it: the page looks by itself
    expect(page.get_by_text("newcomer")).to_be_visible(timeout=10_000)
    assert page.evaluate("window.before"), "it was not loaded anew"


def test_a_hidden_tab_asks_nothing(site: Site, pool: Pool) -> None:
    """Whatever its clock says; shown again, it looks at once."""
    page = site.new_page(site)
    page.clock.install()
    page.goto(site.address + "/ui/queues")
    expect(page.locator("#live")).to_have_text("● live")
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request) if "region=" in request.url else None)
    page.clock.run_for(11_000)
    expect(page.locator("#queue")).to_be_visible()
    assert asked, "it asks while it is seen"
    page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true, configurable: true})")
    page.clock.run_for(300)
    asked.clear()
    page.clock.run_for(59_000)
    assert asked == []
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    with page.expect_request(lambda request: "region=queue" in request.url):
        page.clock.run_for(1_000)


@pytest.mark.parametrize("how", ["down", "stalled"])
def test_without_redis_the_page_comes_in_time_and_says_so(
    settings: Settings, browser: Browser, tmp_path: Path, how: str
) -> None:
    with own_servers(tmp_path) as own:
        endpoints = own.endpoints
        mine = settings.model_copy(update={"database_url": endpoints.database_url, "redis_url": endpoints.redis_url})
        with serve(mine, browser) as site:
            page = site.open("/ui/queues")
            expect(page.get_by_text("no dead letters")).to_be_visible()
            with getattr(own, how)(own.valkey):
                fresh = site.new_page(site)
                started = time.monotonic()
                fresh.goto(site.address + "/ui/queues")
                expect(fresh.get_by_text("Steps go on: workers take them from PostgreSQL.")).to_be_visible()
                took = time.monotonic() - started
                assert took < BUDGET, took
            site.faults.clear()  # sockets that could not be kept are on the console


def test_calls_are_held_and_released_by_keyboard(site: Site, pool: Pool) -> None:
    """Also names that would be script; each act is in the audit log."""
    page = site.open("/ui/queues")
    page.get_by_label("Name").focus()
    page.keyboard.type(BAD)
    page.keyboard.press("Tab")
    page.keyboard.type("the service is away")
    page.keyboard.press("Enter")
    held = page.get_by_role("region", name="Holds").get_by_role("row").filter(has_text=BAD)
    expect(held).to_contain_text("the service is away")
    assert page.url == site.address + "/ui/queues#holds"
    held.get_by_role("button", name=f"Release the tool {BAD}").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing is held back.")).to_be_visible()
    with pool.connection() as connection:
        rows = connection.execute("SELECT principal, action, target FROM audit_log ORDER BY id").fetchall()
    assert [(row["action"], row["target"]) for row in rows] == [("tool.hold", BAD), ("tool.release", BAD)]


def test_releasing_what_somebody_else_has_released_is_no_fault(site: Site, pool: Pool) -> None:
    run(pool, "hold_calls", {"kind": "server", "name": "github", "actor": "ada", "reason": None})
    page = site.open("/ui/queues")
    run(pool, "release_hold", {"kind": "server", "name": "github"})
    page.get_by_role("button", name="Release the server github").click()
    expect(page.get_by_text("Nothing is held back.")).to_be_visible()


def test_who_may_not_hold_reads_why(settings: Settings, browser: Browser, pool: Pool) -> None:
    run(pool, "hold_calls", {"kind": "tool", "name": "a.b", "actor": "ada", "reason": None})
    key = create_key(pool, "eve", "viewer", None)
    with serve(settings, browser, trust=Trust(keys=True)) as site:
        page = site.open("/ui/queues")
        page.get_by_label("Key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Queues and workers")).to_be_visible()
        for name in ("Hold", "Release the tool a.b"):
            expect(page.get_by_role("button", name=name, exact=True)).to_be_disabled()
        expect(page.get_by_text("Holding and releasing need the role operator; eve has viewer.")).to_be_visible()
        answer = page.request.post(
            site.address + "/ui/queues/release",
            form={"kind": "tool", "name": "a.b"},
            headers={"Sec-Fetch-Site": "same-origin"},
        )
        assert answer.status == 403
    assert len(run(pool, "list_holds")) == 1


def test_an_execution_that_nothing_will_move_is_named(site: Site, pool: Pool) -> None:
    execution_id = submit(pool, sequence(2))
    change(pool, "UPDATE workflow_steps SET dispatch_after = NULL WHERE execution_id = %s", execution_id)
    page = site.open("/ui/queues")
    expect(page.get_by_text("✕ 1 executions")).to_be_visible()
    expect(page.get_by_role("link", name=str(execution_id)[:8])).to_be_visible()


def test_a_schema_that_is_not_the_codes_is_told(site: Site, pool: Pool) -> None:
    change(pool, "INSERT INTO afu9_migrations (version, name, checksum) VALUES (9999, 'later', '')")
    page = site.open("/ui/queues")
    expect(page.get_by_text("✕ 9999")).to_be_visible()
    expect(page.get_by_text("update afu9")).to_be_visible()


@pytest.fixture
def crowd(pool: Pool) -> None:
    """12,000 steps that wait and 12,000 that are delayed."""
    execution_id = submit(pool, sequence(1))
    change(
        pool,
        """
        INSERT INTO workflow_steps (execution_id, step_name, step_index, status, next_run_at, dispatch_after)
        SELECT %s, 's', n, 'pending', now() + CASE WHEN n %% 2 = 0 THEN 1 ELSE -1 END * interval '1 hour',
               now() + CASE WHEN n %% 2 = 0 THEN interval '1 hour' ELSE interval '10 seconds' END
          FROM generate_series(1, 24000) n""",
        execution_id,
    )


def test_counts_stop_at_a_limit_and_say_so(settings: Settings, pool: Pool, crowd: None) -> None:
    """Whatever waits, so many rows are read at most."""
    broker = StepBroker(settings.redis_url, namespace=settings.namespace)
    with open_pool(settings.database_dsn) as fresh:
        look = look_at_queues(fresh, broker)
    broker.close()
    assert (look.ready, look.delayed, look.more) == (5000, 5000, True)
    assert look.oldest_seconds == pytest.approx(3600, abs=60)
    assert look.drain_minutes is None
