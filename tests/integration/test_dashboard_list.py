"""The list of executions over HTTP: filters, pages, counts, exports, the audit log, and input of every bad kind."""

from __future__ import annotations

import csv
import gzip
import html
import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import psycopg
import pytest

from persistence.pool import Pool, run
from persistence.settings import Settings
from tests.api_server import running_api
from tests.drive import drive, submit
from tests.fill import make_failed, make_rows
from tests.workflows import FunctionTools, echo, sequence


@pytest.fixture
def site(settings: Settings) -> Iterator[httpx.Client]:
    with running_api(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def titles(site: httpx.Client, query: str) -> list[str]:
    """Of the rows, in their order."""
    answer = site.get(f"/ui/executions?{query}")
    assert answer.status_code == 200, answer.text
    return [html.unescape(one) for one in re.findall(r'<td><a href="/ui/executions/[^"]+">([^<]*)</a>', answer.text)]


def test_each_filter_finds_its_executions(site: httpx.Client, pool: Pool) -> None:
    make_rows(pool, 2, "failed", labels='{"team": "shop", "env": "live"}')
    make_rows(pool, 1, "paused", triggered_by="grace")
    make_rows(pool, 1, "completed", title="old", age=timedelta(days=40))
    make_rows(pool, 1, "completed", title="x 50%_off", labels='{"team": "shop"}')
    make_rows(pool, 1, "completed", title="5 xoff")
    make_rows(pool, 1, "completed", title="by error", error="50%_OFF")
    make_rows(pool, 1, "completed", title="by trigger", triggered_by="50%_off")
    run_of = submit(pool, sequence(1), title="of a workflow")
    failed = ["failed 1", "failed 2"]
    since = (datetime.now(UTC) - timedelta(days=50)).strftime("%Y-%m-%dT%H:%M")
    until = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    for query, found in {
        "status=failed": failed,
        "status=failed&status=paused": [*failed, "paused 1"],
        "status=failed,paused": [*failed, "paused 1"],
        "label=team:shop": [*failed, "x 50%_off"],
        "label=team:shop&label=env:live": failed,
        "triggeredBy=grace": ["paused 1"],
        "q=50%25_off": ["by error", "by trigger", "x 50%_off"],
        "q=50%25_off&label=team:shop": ["x 50%_off"],
        "q=old": [],  # not in the last two days
        "q=old&since=2020-01-01T00:00": ["old"],
        f"since={since}&until={until}": ["old"],
        "workflow=nothing": [],
        "status=running&window=1h": ["of a workflow"],
    }.items():
        assert sorted(titles(site, query)) == found, query
    empty = "q=&status=&workflow=&triggeredBy=&window=&since=&until=&label=&needs=&limit=&cursor=&to="
    assert len(titles(site, empty)) == 9
    answer = site.get("/ui/executions", params={"q": f" {str(run_of)[:20]} "})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/ui/executions/{run_of}")


def test_what_needs_a_decision_is_filtered_like_the_rest(site: httpx.Client, pool: Pool) -> None:
    (mine,) = make_failed(pool, 1, "outcome_unknown", title="mine", triggered_by="ada")
    make_failed(pool, 1, "outcome_unknown", title="theirs", triggered_by="grace")
    make_failed(pool, 1, title="broken", triggered_by="ada")
    assert titles(site, "needs=decision") == ["theirs", "mine"]
    assert titles(site, "needs=decision&triggeredBy=ada") == ["mine"]
    assert titles(site, "needs=decision&q=thei") == ["theirs"]
    assert titles(site, "needs=decision&status=completed") == []
    older = re.search(r'rel="next" href="([^"]+)"', site.get("/ui/executions?needs=decision&limit=1").text)
    assert older is not None
    assert titles(site, html.unescape(older[1]).partition("?")[2]) == ["mine"]
    lines = site.get("/ui/export?needs=decision&triggeredBy=ada").text.splitlines()
    assert [json.loads(line)["title"] for line in lines] == ["mine"]
    decided = site.post(f"/api/workflow/execution/{mine}/decide", json={"step": "0", "decision": "fail"})
    assert decided.status_code == 202, decided.text
    assert titles(site, "needs=decision") == ["theirs"]
    strip = site.get("/ui/executions").text.partition('id="count-undecided"')[2].partition("</a>")[0]
    assert re.sub("<[^>]*>", " ", strip).split()[-4:] == ["1", "needs", "a", "decision"]


def test_pages_go_older_and_newer_with_their_filter(site: httpx.Client, pool: Pool) -> None:
    make_rows(pool, 50)
    make_rows(pool, 30, "failed", age=timedelta(minutes=5))

    def follow(query: str, rel: str) -> str:
        link = re.search(rf'rel="{rel}" href="([^"]+)"', site.get(f"/ui/executions?{query}").text)
        return html.unescape(link[1]).partition("?")[2] if link else ""

    first = "status=completed&limit=20"
    second = follow(first, "next")
    third = follow(second, "next")
    assert titles(site, third) == [f"completed {number}" for number in range(10, 0, -1)]
    assert follow(third, "next") == ""
    back = follow(third, "prev")
    assert titles(site, back) == titles(site, second) == [f"completed {number}" for number in range(30, 10, -1)]
    assert titles(site, follow(back, "prev")) == titles(site, first)
    assert follow(first, "prev") == ""


def test_a_row_tells_how_far_it_came_and_what_it_met(site: httpx.Client, pool: Pool) -> None:
    make_failed(pool, 1, triggered_by="<b>me</b>")
    drive(pool, submit(pool, sequence(3)), FunctionTools(echo=echo))
    text = site.get("/ui/executions").text
    assert ">3/3<" in text
    assert re.search(r">0/1 <span class=\"status failed\"", text)
    assert "&lt;b&gt;me&lt;/b&gt;" in text


def test_what_goes_on_is_counted_up_to_a_thousand(site: httpx.Client, pool: Pool) -> None:
    make_rows(pool, 3, "pending")
    make_rows(pool, 1001, "failed")
    make_rows(pool, 2, "failed", age=timedelta(days=2))
    make_failed(pool, 1, "outcome_unknown")
    strip = site.get("/ui/executions?status=paused").text.partition('aria-label="Now"')[2].partition("</nav>")[0]
    links = dict(re.findall(r'href="/ui/executions\?([^"]+)" id="count-(?:\w+)">(.*?)</a>', strip))
    words = {html.unescape(query): re.sub("<[^>]*>|\\s+", " ", text).split()[1:] for query, text in links.items()}
    assert words == {
        "status=pending": ["3", "pending"],
        "status=running": ["0", "running"],
        "status=paused": ["0", "paused"],
        "needs=decision": ["1", "needs", "a", "decision"],
        "status=failed&window=24h": ["1,000+", "failed", "(24", "h)"],
    }


BAD = (
    ("/ui/executions?statsu=failed", 400, "/query/statsu"),
    ("/ui/executions?status=nonsense", 422, "unknown status nonsense"),
    ("/ui/executions?since=0001-01-01T00:00%2B14:00", 422, "no such time in UTC"),
    ("/ui/executions?until=9999-12-31T23:59-14:00", 422, "no such time in UTC"),
    ("/ui/executions?until=9999-12-31T23:59", 200, "until 9999-12-31 23:59 UTC"),
    ("/ui/executions?since=0001-01-01T00:00", 200, "since 0001-01-01 00:00 UTC"),
    ("/ui/executions?since=tomorrow", 422, "since"),
    ("/ui/executions?q=%00%00", 422, "PostgreSQL cannot store this"),
    ("/ui/executions?label=nothing", 422, "NAME:VALUE"),
    ("/ui/executions?limit=201", 422, "limit"),
    ("/ui/executions?cursor=x", 400, "cursor"),
    ("/ui/executions?region=nothing", 404, "no region"),
    ("/ui/export?format=xml", 422, "format"),
    ("/ui/audit?region=rows", 404, "no region"),
    ("/ui/audit?before=0", 422, "before"),
    ("/ui/audit?principal=%00", 422, "PostgreSQL cannot store this"),
    ("/ui/jobs/00000000-0000-0000-0000-000000000000", 404, "no job"),
    ("/ui/bulk", 405, "a form that one of our pages sends"),
    ("/api/workflow/executions?until=9999-12-31T23:59:59-14:00", 200, ""),
    ("/api/workflow/executions?since=0001-01-01T00:00:00%2B14:00", 200, ""),
)


def test_bad_input_is_a_page_that_says_so(site: httpx.Client) -> None:
    for address, status, words in BAD:
        answer = site.get(address)
        assert (answer.status_code, words in html.unescape(answer.text)) == (status, True), f"{address}: {answer.text}"


def test_a_cursor_of_another_filter_is_refused(site: httpx.Client, pool: Pool) -> None:
    make_rows(pool, 60)
    older = re.search(r'rel="next" href="([^"]+)"', site.get("/ui/executions").text)
    assert older is not None
    answer = site.get(f"{html.unescape(older[1])}&status=failed")
    assert (answer.status_code, "belongs to another listing" in answer.text) == (400, True)


def test_an_export_holds_what_is_filtered_and_nothing_that_harms(site: httpx.Client, pool: Pool) -> None:
    make_rows(pool, 600, "failed", labels='{"team": "shop", "api_token": "hush"}')
    for cell in ("=1+1", "+1", "-1", "@SUM(A1)", " =1+1", "\t1", "\n=1"):
        make_rows(pool, 1, "paused", title=cell, error=cell, triggered_by=cell)
    lines = [json.loads(line) for line in site.get("/ui/export?status=failed").text.splitlines()]
    assert len(lines) == 600
    assert lines[0]["labels"] == {"team": "shop", "api_token": "[redacted]"}
    answer = site.get("/ui/export?status=failed,paused&format=csv")
    assert "attachment" in answer.headers["content-disposition"]
    assert "hush" not in answer.text
    table = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert len(table) == 608
    texts = [row[column] for row in table[1:8] for column in (2, 4, 9)]
    assert all(text.startswith("'") for text in texts), texts


def test_an_export_says_where_it_ends(site: httpx.Client, pool: Pool) -> None:
    make_rows(pool, 10_001)
    lines = site.get("/ui/export").text.splitlines()
    assert len(lines) == 10_001
    assert "only the first 10,000" in json.loads(lines[-1])["truncated"]


def test_the_audit_log_is_paged_and_filtered(site: httpx.Client, pool: Pool) -> None:
    (broken,) = make_failed(pool, 1)
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO audit_log (principal, action, target, detail) SELECT 'ada', 'workflow.disable', 'w' || n, NULL"
            " FROM generate_series(1, 60) n"
        )
    detail = json.dumps({"reason": "why", "filter": {"labels": {"api_token": "hush"}}})
    row = {"principal": "<b>eve</b>", "action": "execution.cancel", "target": str(broken), "detail": detail}
    run(pool, "write_audit", row)
    first = site.get("/ui/audit").text
    assert first.count("<tr data-row>") == 50
    for words in ("&lt;b&gt;eve&lt;/b&gt;", "reason: why", f'href="/ui/executions/{broken}"'):
        assert words in first
    assert "hush" not in first
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    assert site.get(html.unescape(older[1])).text.count("<tr data-row>") == 11
    for query, count in {
        "principal=ada&target=w7&action=": 1,
        f"principal={quote('<b>eve</b>')}": 1,
        "action=execution.cancel": 1,
        "principal=nobody": 0,
    }.items():
        assert site.get(f"/ui/audit?{query}").text.count("<tr data-row>") == count, query


def test_a_fault_of_ours_has_an_id_that_stands_in_the_log(
    site: httpx.Client, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    with pool.connection() as connection:
        connection.execute("ALTER TABLE audit_log RENAME TO audit_log_away")
    with caplog.at_level(logging.ERROR):
        answer = site.get("/ui/audit")
    assert answer.status_code == 500
    found = re.search(r"as request (\w+)", answer.text)
    assert found is not None
    assert f"request {found[1]}: GET /ui/audit failed" in caplog.text
    assert "audit_log" not in answer.text


def test_a_query_that_takes_too_long_is_a_page_that_says_so(site: httpx.Client, dsn: str) -> None:
    with psycopg.connect(dsn) as other:
        other.execute("LOCK TABLE workflow_executions IN ACCESS EXCLUSIVE MODE")
        answer = site.get("/ui/executions?q=needle")
    assert answer.status_code == 503
    assert "The query took too long" in answer.text
    assert "It was stopped, so that it keeps nobody waiting." in answer.text
    assert 'href="/ui/executions?q=needle">Try again' in answer.text


def test_the_first_load_is_small(site: httpx.Client, pool: Pool) -> None:
    make_rows(pool, 100, "failed", error="x" * 300)
    body = site.get("/ui/executions").content
    found = re.findall(r'(?:stylesheet" href|script src)="([^"]+)"', body.decode())
    parts = [body, *(site.get(path).content for path in found)]
    assert len(parts) == 3
    assert sum(len(gzip.compress(part)) for part in parts) <= 60 * 1024
