"""The HTTP API over a real socket, on real rows: the original's shapes, starts, pages, and every kind of bad input."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import anyio.to_thread
import httpx
import pytest

from control_center.keys import ROLES, Trust, create_key
from persistence.pool import Pool, run
from persistence.settings import Settings
from persistence.transitions import ReadyStep
from tests.api_server import running_api
from tests.integration.test_transitions import WORKER, charge, finish, renew, take

ECHO = {
    "name": "echo_flow",
    "steps": [
        {"name": "first", "tool": "test.echo", "params": {"n": "${input.n}"}, "assign": "one"},
        {
            "name": "second",
            "tool": "test.echo",
            "params": {"before": "${one}"},
            "assign": "two",
            "if": "${input.n} > 0",
        },
    ],
}
UNKNOWN = UUID(int=7)
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx.Client]:
    with running_api(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def started(api: httpx.Client, **wish: Any) -> str:
    answer = api.post("/api/workflow/executions", json={"definition": ECHO, "input": {"n": 1}} | wish)
    assert answer.status_code == 202, answer.text
    found: str = answer.json()["executionId"]
    return found


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"].endswith(f"/{slug}")
    assert body["status"] == status
    assert body["error"] == body["title"]
    assert body["message"] == body["detail"]
    return body


def run_through(pool: Pool, execution_id: str) -> None:
    """Both steps, by hand."""
    renew(pool, WORKER)
    for index in range(2):
        row = run(pool, "get_execution_steps", {"execution_id": execution_id})[index]
        finish(pool, take(pool, ReadyStep(row["id"], row["attempt"])))


def post_head(length: int, *more: str) -> bytes:
    """A request up to its body."""
    lines = ["POST /api/workflow/executions HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {length}", *more, "", ""]).encode()


def test_the_original_detail_has_every_key(api: httpx.Client, pool: Pool) -> None:
    """GET /api/workflow/execution/{id}, as documented: keys, camelCase, times, counts."""
    execution_id = started(api, triggeredBy="user@example.com", githubRunId="run-1")
    run_through(pool, execution_id)
    body = api.get(f"/api/workflow/execution/{execution_id}").json()
    assert set(body) == {"execution", "steps", "metadata"}
    execution = body["execution"]
    original = [
        "id",
        "workflowId",
        "status",
        "input",
        "output",
        "context",
        "startedAt",
        "completedAt",
        "error",
        "triggeredBy",
        "githubRunId",
    ]
    assert list(execution)[: len(original)] == original
    assert (execution["id"], execution["workflowId"], execution["status"]) == (execution_id, None, "completed")
    assert execution["input"] == {"n": 1}
    assert execution["output"] == {"one": {"index": 0}, "two": {"index": 1}}
    assert execution["context"]["variables"] == execution["output"]
    assert TIME.match(execution["startedAt"])
    assert TIME.match(execution["completedAt"])
    assert (execution["error"], execution["triggeredBy"], execution["githubRunId"]) == (
        None,
        "user@example.com",
        "run-1",
    )
    step = body["steps"][0]
    keys = [
        "id",
        "name",
        "index",
        "status",
        "input",
        "output",
        "startedAt",
        "completedAt",
        "durationMs",
        "error",
        "retryCount",
    ]
    assert list(step)[: len(keys)] == keys
    assert (step["name"], step["index"], step["status"], step["output"]) == ("first", 0, "completed", {"index": 0})
    assert isinstance(step["durationMs"], int)
    assert body["metadata"] == {"totalSteps": 2, "completedSteps": 2, "failedSteps": 0, "skippedSteps": 0}


def test_the_original_listing_has_every_key(api: httpx.Client) -> None:
    """GET /api/workflow/executions?limit=: newest first, `total` is the number of rows in the answer."""
    ids = [started(api) for _ in range(3)]
    body = api.get("/api/workflow/executions", params={"limit": 2}).json()
    assert body["total"] == 2
    assert [row["id"] for row in body["executions"]] == [ids[2], ids[1]]
    original = ["id", "workflowId", "status", "startedAt", "completedAt", "error", "triggeredBy", "githubRunId"]
    assert list(body["executions"][0])[: len(original)] == original


def test_the_original_way_to_execute(api: httpx.Client) -> None:
    """POST /api/workflow/execute with the definition as `workflow` and the input in the context."""
    answer = api.post(
        "/api/workflow/execute", json={"workflow": ECHO, "context": {"input": {"n": 4}, "repo": {"owner": "a"}}}
    )
    assert answer.status_code == 202
    execution = api.get(answer.headers["location"]).json()["execution"]
    assert execution["input"] == {"n": 4}
    assert execution["context"]["repo"] == {"owner": "a"}


def test_pages_follow_each_other_without_gap_or_repetition(api: httpx.Client) -> None:
    """Also when rows come in between; Link says the same as nextCursor."""
    ids = [started(api, labels={"team": "a"}) for _ in range(5)]
    seen: list[str] = []
    path: str | None = "/api/workflow/executions?limit=2&label=team:a"
    while path:
        answer = api.get(path)
        seen += [row["id"] for row in answer.json()["executions"]]
        started(api, labels={"team": "a"})
        link = answer.headers.get("link")
        assert (link is not None) == answer.json()["hasMore"]
        path = link[1 : link.index(">")] if link else None
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("status=running", 2),
        ("status=completed", 0),
        ("status=failed,running", 2),
        ("triggeredBy=ann", 1),
        ("label=team:b", 1),
        ("label=team:b&label=env:x", 0),
        ("since=2020-01-01T00:00:00Z", 2),
        ("until=2020-01-01T00:00:00Z", 0),
        ("q=needle", 1),
        ("q=100%25", 0),
        ("workflow=echo_flow", 1),
        ("workflow=none", 0),
    ],
)
def test_filters(api: httpx.Client, query: str, found: int) -> None:
    """Each of them alone, and together."""
    api.post("/api/workflow/workflows", json={"definition": ECHO})
    api.post(
        "/api/workflow/workflows/echo_flow/trigger", json={"input": {"n": 1}, "triggeredBy": "ann", "title": "a Needle"}
    )
    started(api, labels={"team": "b"})
    assert api.get(f"/api/workflow/executions?{query}").json()["total"] == found


def test_an_unchanged_execution_is_not_sent_again(api: httpx.Client, pool: Pool) -> None:
    """ETag and If-None-Match; a step's progress changes it."""
    execution_id = started(api)
    first = api.get(f"/api/workflow/execution/{execution_id}")
    again = api.get(f"/api/workflow/execution/{execution_id}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    run_through(pool, execution_id)
    later = api.get(f"/api/workflow/execution/{execution_id}", headers={"If-None-Match": first.headers["etag"]})
    assert later.status_code == 200


def test_one_key_makes_one_execution(api: httpx.Client) -> None:
    """Twenty at once: one execution, twenty equal answers; with another request the key is refused and nothing is written."""
    body = {"definition": ECHO, "input": {"n": 1}}

    def post(_: int) -> httpx.Response:
        return httpx.post(
            f"{api.base_url}/api/workflow/executions", json=body, headers={"Idempotency-Key": "k1"}, timeout=30
        )

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(post, range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 19
    other = api.post("/api/workflow/executions", json=body | {"input": {"n": 2}}, headers={"Idempotency-Key": "k1"})
    problem(other, 422, "idempotency-mismatch")
    assert api.get("/api/workflow/executions").json()["total"] == 1


def test_a_start_takes_one_thread(settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not another one to learn who asks, nor one to check the answer."""
    taken: list[str] = []
    to_thread = anyio.to_thread.run_sync

    async def noted(work: Callable[..., Any], *given: Any, **named: Any) -> Any:
        taken.append(repr(work))
        return await to_thread(work, *given, **named)

    key = {"Authorization": f"Bearer {make_key(pool, 'submitter')}"}
    with running_api(settings, Trust(keys=True)) as url, httpx.Client(base_url=url, headers=key, timeout=30) as api:
        started(api)
        monkeypatch.setattr("anyio.to_thread.run_sync", noted)
        started(api)
    assert len(taken) == 1, taken


def test_a_client_that_hangs_up_and_repeats_makes_one_execution(api: httpx.Client) -> None:
    """It is gone between request and answer."""
    import json

    body = json.dumps({"definition": ECHO, "input": {"n": 1}}).encode()
    with socket.create_connection((api.base_url.host, api.base_url.port or 0)) as gone:
        gone.sendall(post_head(len(body), "Idempotency-Key: k2") + body)
    answer = api.post(
        "/api/workflow/executions", content=body, headers={"Idempotency-Key": "k2", "Content-Type": "application/json"}
    )
    assert answer.status_code == 202
    assert api.get("/api/workflow/executions").json()["total"] == 1


def test_a_batch_is_one_transaction(api: httpx.Client) -> None:
    """Each request with a key of its own; what one of them has wrong starts none."""
    requests = [{"input": {"n": n}, "idempotencyKey": f"b{n}"} for n in range(50)]
    first = api.post("/api/workflow/executions/batch", json={"definition": ECHO, "requests": requests})
    assert first.status_code == 202
    again = api.post("/api/workflow/executions/batch", json={"definition": ECHO, "requests": requests})
    assert again.json() == first.json()
    assert first.json()["total"] == 50
    bad = api.post(
        "/api/workflow/executions/batch", json={"definition": ECHO, "requests": [{"input": {}}, {"input": 3}]}
    )
    assert problem(bad, 422, "invalid-request")["errors"][0]["pointer"] == "/requests/1/input"
    assert api.get("/api/workflow/executions?limit=500").json()["total"] == 50


def test_a_dry_run_says_what_would_be_called(api: httpx.Client) -> None:
    """And writes nothing."""
    answer = api.post("/api/workflow/executions", json={"definition": ECHO, "input": {"n": 1}, "dryRun": True})
    assert answer.status_code == 200
    assert [(step["step"], step["tool"], step["condition"]) for step in answer.json()["steps"]] == [
        ("first", "test.echo", None),
        ("second", "test.echo", "${input.n} > 0"),
    ]
    assert api.get("/api/workflow/executions").json()["total"] == 0


def test_workflows_have_versions(api: httpx.Client) -> None:
    """The same definition is no new version; a changed one is, and starts use it; a disabled workflow starts nothing."""
    first = api.post("/api/workflow/workflows", json={"definition": ECHO})
    assert (first.status_code, first.json()["version"], first.json()["created"]) == (201, 1, True)
    same = api.post("/api/workflow/workflows", json={"definition": ECHO})
    assert (same.status_code, same.json()["id"]) == (200, first.json()["id"])
    changed = ECHO | {"steps": ECHO["steps"][:1]}
    assert api.post("/api/workflow/workflows", json={"definition": changed}).json()["version"] == 2
    assert api.get("/api/workflow/workflows/echo_flow").json()["definition"] == changed
    assert api.get("/api/workflow/workflows/echo_flow", params={"version": 1}).json()["definition"] == ECHO
    accepted = api.post("/api/workflow/workflows/echo_flow/trigger", json={"input": {"n": 1}}).json()
    assert accepted["workflowId"] != first.json()["id"]
    assert api.get(accepted["url"]).json()["metadata"]["totalSteps"] == 1
    assert api.post("/api/workflow/workflows/echo_flow/disable").json()["enabled"] is False
    problem(api.post("/api/workflow/workflows/echo_flow/trigger", json={}), 409, "workflow-disabled")
    assert api.post("/api/workflow/workflows", json={"definition": ECHO}).json()["enabled"] is False
    assert api.post("/api/workflow/workflows/echo_flow/enable").json()["enabled"] is True
    assert [row["version"] for row in api.get("/api/workflow/workflows").json()["workflows"]] == [3]


def test_a_step_shows_its_attempts(api: httpx.Client, pool: Pool) -> None:
    """Each that failed, with its error; the events of the whole execution from any point on."""
    execution_id = started(api)
    renew(pool, WORKER)
    (row, _) = run(pool, "get_execution_steps", {"execution_id": execution_id})
    charge(pool, take(pool, ReadyStep(row["id"], 0)))
    body = api.get(f"/api/workflow/execution/{execution_id}/steps/0").json()
    assert (body["step"]["status"], [attempt["message"] for attempt in body["attempts"]]) == ("failed", ["it broke"])
    events = api.get(f"/api/workflow/execution/{execution_id}/events").json()["events"]
    assert api.get(f"/api/workflow/execution/{execution_id}/events?after={events[-1]['id']}").json()["total"] == 0


BAD = [
    ("malformed", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "malformed-json"),
    (
        "10 MB",
        {"content": b'"' + b"x" * 10_000_000 + b'"', "headers": {"Content-Type": "application/json"}},
        413,
        "body-too-large",
    ),
    (
        "deep",
        {"content": b'{"input":' + b"[" * 1000 + b"]" * 1000 + b"}", "headers": {"Content-Type": "application/json"}},
        400,
        "too-deep",
    ),
    (
        "not JSON",
        {"content": b"a=b", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        422,
        "invalid-request",
    ),
    ("no body", {}, 422, "invalid-request"),
    ("unknown key", {"json": {"definition": ECHO, "inputt": {}}}, 422, "invalid-request"),
    ("both", {"json": {"definition": ECHO, "workflow": "x"}}, 422, "invalid-request"),
    ("neither", {"json": {}}, 422, "invalid-request"),
    ("unknown workflow", {"json": {"workflow": "nobody"}}, 404, "not-found"),
    ("bad definition", {"json": {"definition": {"steps": [{"name": "A B"}]}}}, 422, "invalid-definition"),
    ("NUL", {"json": {"definition": ECHO, "input": {"n": "a\0b"}}}, 422, "invalid-request"),
    (
        "surrogate",
        {
            "content": b'{"definition": {"steps": []}, "title": "\\ud800"}',
            "headers": {"Content-Type": "application/json"},
        },
        422,
        "invalid-request",
    ),
    ("labels", {"json": {"definition": ECHO, "labels": {"a": 1}}}, 422, "invalid-request"),
    (
        "other site",
        {"json": {"definition": ECHO, "input": {"n": 1}}, "headers": {"Origin": "https://evil.example"}},
        403,
        "foreign-origin",
    ),
    (
        "cross site",
        {"json": {"definition": ECHO, "input": {"n": 1}}, "headers": {"Sec-Fetch-Site": "cross-site"}},
        403,
        "foreign-origin",
    ),
]


@pytest.mark.parametrize(("arguments", "status", "slug"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_starts_are_problems_and_write_nothing(
    api: httpx.Client, arguments: dict[str, Any], status: int, slug: str
) -> None:
    """Each a 4xx with a stable type."""
    problem(api.post("/api/workflow/executions", **arguments), status, slug)
    assert api.get("/api/workflow/executions").json()["total"] == 0


@pytest.mark.parametrize(
    ("path", "status", "slug"),
    [
        ("execution/not-a-uuid", 422, "invalid-request"),
        (f"execution/{UNKNOWN}", 404, "not-found"),
        (f"execution/{UNKNOWN}/steps/0", 404, "not-found"),
        ("executions?limit=0", 422, "invalid-request"),
        ("executions?limit=501", 422, "invalid-request"),
        ("executions?page=2", 400, "unknown-parameter"),
        (f"execution/{UNKNOWN}?include=all", 400, "unknown-parameter"),
        ("workflows?page=2", 400, "unknown-parameter"),
        ("executions?status=done", 422, "invalid-request"),
        ("executions?cursor=AAAA", 400, "foreign-cursor"),
        ("executions?since=yesterday", 422, "invalid-request"),
        ("executions?label=x", 422, "invalid-request"),
        ("workflows/nobody", 404, "not-found"),
        ("nowhere", 404, "not-found"),
    ],
)
def test_bad_reads_are_problems(api: httpx.Client, path: str, status: int, slug: str) -> None:
    """A wrong address, a wrong parameter, a cursor that is none."""
    problem(api.get(f"/api/workflow/{path}"), status, slug)


def test_a_cursor_of_another_listing_is_refused(api: httpx.Client) -> None:
    """Its position would mean something else there."""
    for _ in range(3):
        started(api)
    cursor = api.get("/api/workflow/executions?limit=1").json()["nextCursor"]
    problem(api.get(f"/api/workflow/executions?limit=1&status=running&cursor={cursor}"), 400, "foreign-cursor")


@pytest.fixture
def guarded(settings: Settings) -> Iterator[str]:
    with running_api(settings, Trust(keys=True)) as url:
        yield url


def make_key(pool: Pool, role: str, seconds: float | None = None) -> str:
    return create_key(pool, f"a {role}", ROLES[ROLES.index(role)], seconds)  # type: ignore[arg-type]


def test_keys_open_what_their_role_allows(guarded: str, pool: Pool) -> None:
    """Roles contain each other; whoever starts something is on the row."""

    def ask(role: str) -> httpx.Client:
        return httpx.Client(base_url=guarded, headers={"Authorization": f"Bearer {make_key(pool, role)}"})

    with ask("viewer") as viewer, ask("submitter") as submitter, ask("operator") as operator:
        assert viewer.get("/api/workflow/executions").status_code == 200
        body = problem(
            viewer.post("/api/workflow/executions", json={"definition": ECHO, "input": {"n": 1}}), 403, "forbidden"
        )
        assert "submitter" in body["detail"]
        execution_id = started(submitter)
        assert viewer.get(f"/api/workflow/execution/{execution_id}").json()["execution"]["triggeredBy"] == "a submitter"
        problem(submitter.post("/api/workflow/workflows", json={"definition": ECHO}), 403, "forbidden")
        assert operator.post("/api/workflow/workflows", json={"definition": ECHO}).status_code == 201
    with pool.connection() as connection:
        rows = connection.execute("SELECT principal, action, target FROM audit_log ORDER BY id").fetchall()
    assert rows == [
        {"principal": "a submitter", "action": "execution.start", "target": None},
        {"principal": "a operator", "action": "workflow.register", "target": "echo_flow"},
    ]


def test_without_a_good_key_nothing_opens(guarded: str, pool: Pool) -> None:
    """None, a wrong one, an expired one, a revoked one; health is for everybody."""
    good, expired, revoked = make_key(pool, "admin"), make_key(pool, "admin", 0), make_key(pool, "admin")
    run(pool, "revoke_key", {"id": revoked.split("_")[1]})
    wrong = good[:-1] + ("A" if good[-1] != "A" else "B")
    for key in (None, "nonsense", wrong, expired, revoked, "afu9__", "afu9_%s_x" % ("é" * 12)):
        headers = {"Authorization": f"Bearer {key}".encode()} if key else {}
        body = problem(httpx.get(f"{guarded}/api/workflow/executions", headers=headers), 401, "unauthenticated")
        assert good.split("_", 2)[2] not in str(body)
    assert httpx.get(f"{guarded}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{guarded}/readyz").json()["database"] == "ok"
    assert (
        httpx.get(f"{guarded}/api/workflow/executions", headers={"Authorization": f"Bearer {good}"}).status_code == 200
    )


@pytest.mark.parametrize("begun", [b"", b"GET /api/workflow/executions HTTP/1.1\r\nHost: local", b"body"])
def test_a_slow_request_is_cut_off(api: httpx.Client, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    """In its head, in its body, or before its first byte; others are served meanwhile."""
    monkeypatch.setattr("control_center.api.limits.BODY_SECONDS", 0.3)
    monkeypatch.setattr("control_center.api.await_request.HEAD_SECONDS", 0.3)
    with socket.create_connection((api.base_url.host, api.base_url.port or 0)) as slow:
        slow.sendall(post_head(100) + b"{" if begun == b"body" else begun)
        assert api.get("/healthz").status_code == 200
        slow.settimeout(10)
        told = b""
        while b"request-timeout" not in told:
            more = slow.recv(65536)
            assert more, told
            told += more
    assert told.startswith(b"HTTP/1.1 408")


def test_too_many_requests_are_told_when_to_come_again(settings: Settings) -> None:
    """A bucket of ten seconds' worth per caller, for what changes something."""
    with (
        running_api(settings.model_copy(update={"api_requests_per_second": 0.5})) as url,
        httpx.Client(base_url=url) as api,
    ):
        answers = [api.post("/api/workflow/executions", json={}) for _ in range(8)]
        assert [answer.status_code for answer in answers] == [422] * 5 + [429] * 3
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert api.get("/api/workflow/executions").status_code == 200


def test_a_query_that_takes_too_long_is_a_problem(api: httpx.Client, pool: Pool) -> None:
    """The ceiling is two seconds; the table is locked here."""
    with pool.connection() as connection, connection.transaction():
        connection.execute("LOCK TABLE workflow_executions IN ACCESS EXCLUSIVE MODE")
        answer = api.get("/api/workflow/executions")
    assert "retry-after" in answer.headers
    problem(answer, 503, "query-too-broad")


def test_a_browser_signs_in_by_key(guarded: str, pool: Pool) -> None:
    """The cookie is HttpOnly and opens what the key opens; an unsafe request that another site sends with it is refused."""
    key = make_key(pool, "submitter")
    with httpx.Client(base_url=guarded) as browser:
        problem(browser.post("/api/session", json={"key": "wrong"}), 401, "unauthenticated")
        answer = browser.post("/api/session", json={"key": key})
        assert answer.json() == {"name": "a submitter", "role": "submitter"}
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        wish = {"definition": ECHO, "input": {"n": 1}}
        assert browser.post("/api/workflow/executions", json=wish, headers={"Origin": guarded}).status_code == 202
        assert (
            browser.post("/api/workflow/executions", json=wish, headers={"Sec-Fetch-Site": "same-origin"}).status_code
            == 202
        )
        foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        problem(browser.post("/api/workflow/executions", json=wish, headers=foreign), 403, "foreign-origin")
        assert browser.delete("/api/session").status_code == 204
        problem(browser.get("/api/session"), 401, "unauthenticated")


def test_a_proxys_word_counts_from_trusted_addresses_only(settings: Settings, pool: Pool) -> None:
    """Anybody may send the header."""
    import ipaddress

    user = {"X-Forwarded-User": "ann@example.com"}
    for network, status in (("127.0.0.0/8", 200), ("10.0.0.0/8", 401)):
        trust = Trust(keys=True, proxies=(ipaddress.ip_network(network),), proxy_role="viewer")
        with running_api(settings, trust) as url:
            assert httpx.get(f"{url}/api/session", headers=user).status_code == status


def test_an_open_api_serves_its_machine_by_its_own_name_only(settings: Settings) -> None:
    """A name that another site has pointed at this machine is not ours."""
    with running_api(settings, Trust(keys=False, local_only=True)) as url:
        assert httpx.get(f"{url}/api/workflow/executions").status_code == 200
        rebound = httpx.get(f"{url}/api/workflow/executions", headers={"Host": "evil.example:3000"})
        problem(rebound, 403, "foreign-origin")


@pytest.mark.parametrize("asked", ["/ui/executions", "/x/flow/ui/executions"], ids=["stripped", "whole"])
def test_a_proxy_may_strip_its_path_or_not(settings: Settings, asked: str) -> None:
    """What the page refers to has the path that the browser needs."""
    with running_api(settings.model_copy(update={"api_root": "/x/flow"})) as url:
        answer = httpx.get(url + asked)
        assert answer.status_code == 200
        assert all(f'{name}="/x/flow/ui/' in answer.text for name in ("href", "hx-get", "action")), answer.text
        assert httpx.get(url + asked.replace("/ui/executions", "/api/workflow/executions")).status_code == 200
