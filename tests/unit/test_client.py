"""The client's pure parts: what is sent, when it is sent again, what an answer means; and that it stands alone."""

from __future__ import annotations

import inspect
import json
import logging
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_center.client import (
    AsyncClient,
    Client,
    ConnectionFailed,
    Execution,
    ExecutionRow,
    Request,
    Unsendable,
    Workflow,
    WorkflowDetail,
    errors,
)
from control_center.client.answers import AcceptedBatch, StepDetail
from control_center.client.call import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Answer,
    Call,
    NoAnswer,
    Pause,
    attempt,
    body,
    error_of,
    path,
    pause_before_retry,
    post,
)
from control_center.client.decode import Unreadable, decode
from control_center.client.errors import ExecutionTimeout
from control_center.client.follow import wait
from control_center.client.keep_answers import Registered
from control_center.client.start import BATCH, BATCH_BYTES, submit, submit_many
from tests.fleet import ROOT

SAFE = Call("GET", "/x")
UNSAFE = post("/x", {}, repeatable=False)
KEY = "afu9_abcdefghijkl_s3cr3t-S3CR3T"


def answer(status: int, content: Any = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"content-type": "application/json"} | named, json.dumps(content).encode())


def problem(status: int, slug: str, **more: Any) -> Answer:
    found = {"type": f"https://afu9.dev/problems/{slug}", "status": status, "detail": "no"} | more
    return answer(status, found, content_type="application/problem+json")


LOST = NoAnswer("reset", sent=True)
REFUSED = NoAnswer("refused", sent=False)


@pytest.mark.parametrize(
    ("call", "outcome", "again"),
    [
        (SAFE, LOST, True),
        (SAFE, REFUSED, True),
        (UNSAFE, LOST, False),
        (UNSAFE, REFUSED, True),
        (SAFE, problem(429, "rate-limited"), True),
        (UNSAFE, problem(429, "rate-limited"), True),
        (SAFE, problem(503, "database-away"), True),
        (UNSAFE, problem(503, "database-away"), False),
        (SAFE, problem(503, "query-too-broad"), False),
        (SAFE, answer(502, content_type="text/html"), True),
        (SAFE, problem(500, "internal"), False),
        (SAFE, problem(404, "not-found"), False),
        (SAFE, answer(200), False),
    ],
)
def test_what_may_have_been_done_is_repeated_only_where_that_is_harmless(
    call: Call, outcome: Answer | NoAnswer, again: bool
) -> None:
    """A refused connection and 429 have done nothing; a lost answer may have."""
    assert (pause_before_retry(call, outcome, 0, 0.5) is not None) is again


def test_pauses_grow_spread_and_never_undercut_what_the_server_asks() -> None:
    """Each between half and the whole of its length; Retry-After is added to."""
    for tries in (0, 1, 2, 50, 10_000):
        length = min(FIRST_PAUSE * 2.0 ** min(tries, 30), LONGEST_PAUSE)
        assert pause_before_retry(SAFE, LOST, tries, 0.0) == pytest.approx(length / 2)
        assert pause_before_retry(SAFE, LOST, tries, 1.0) == pytest.approx(length)
    asked = answer(429, retry_after="7")
    assert pause_before_retry(SAFE, asked, 0, 0.0) == pytest.approx(7 + FIRST_PAUSE / 2)
    for nonsense in ("soon", "-1", "٣", "1e9", "Wed, 21 Oct 2026 07:28:00 GMT", "9999999"):
        assert answer(429, retry_after=nonsense).retry_after is None


def test_an_attempt_ends_with_the_first_answer_that_is_one() -> None:
    """Lost, then told to wait, then answered."""
    attempts = attempt(SAFE, 60)
    assert next(attempts) is SAFE
    assert isinstance(attempts.send(LOST), Pause)
    assert next(attempts) is SAFE
    pause = attempts.send(problem(503, "database-away", x=1))
    assert isinstance(pause, Pause)
    assert next(attempts) is SAFE
    with pytest.raises(StopIteration) as done:
        attempts.send(answer(200, 1))
    assert done.value.value.content == b"1"


@pytest.mark.parametrize("call", [SAFE, Call("GET", "/x", patience=600, deadline=time.monotonic())])
def test_patience_and_deadline_bound_the_attempts(call: Call) -> None:
    """No pause that would end too late is begun; the error is the last outcome's."""
    attempts = attempt(call, 5)
    next(attempts)
    with pytest.raises(errors.RateLimited) as failed:
        attempts.send(answer(429, retry_after="6"))
    assert failed.value.retry_after == 6
    hopeless = attempt(SAFE, 0)
    next(hopeless)
    with pytest.raises(ConnectionFailed, match="reset"):
        hopeless.send(LOST)


@pytest.mark.parametrize(
    ("outcome", "kind", "slug"),
    [
        (problem(400, "malformed-json"), errors.InvalidRequest, "malformed-json"),
        (problem(401, "unauthenticated"), errors.Unauthenticated, "unauthenticated"),
        (problem(403, "forbidden"), errors.Forbidden, "forbidden"),
        (problem(404, "not-found"), errors.NotFound, "not-found"),
        (problem(409, "workflow-disabled"), errors.Conflict, "workflow-disabled"),
        (problem(409, "action-refused"), errors.Refused, "action-refused"),
        (problem(409, "action-refused", executionStatus=5, allowedActions="x"), errors.Refused, "action-refused"),
        (problem(413, "body-too-large"), errors.InvalidRequest, "body-too-large"),
        (problem(422, "invalid-definition"), errors.InvalidRequest, "invalid-definition"),
        (problem(429, "rate-limited"), errors.RateLimited, "rate-limited"),
        (problem(503, "database-away"), errors.Unavailable, "database-away"),
        (problem(500, "internal"), errors.ApiError, "internal"),
        (problem(418, "of-the-future"), errors.ApiError, "of-the-future"),
        (answer(404, content_type="text/html"), errors.UnexpectedAnswer, ""),
        (answer(500, content_type="text/html"), errors.UnexpectedAnswer, ""),
        (answer(302, location="/login"), errors.UnexpectedAnswer, ""),
        (answer(401, content_type="text/html"), errors.Unauthenticated, ""),
        (answer(502, content_type="text/html"), errors.Unavailable, ""),
        (Answer(422, {"content-type": "application/problem+json"}, b"{"), errors.UnexpectedAnswer, ""),
        (Answer(422, {"content-type": "application/problem+json"}, b'{"type": 5}'), errors.UnexpectedAnswer, ""),
    ],
)
def test_errors_are_told_apart_by_type_and_status(outcome: Answer, kind: type[Exception], slug: str) -> None:
    """A proxy's own 401 or 502 means what ours does; other answers that are no problem documents are not from us."""
    error = error_of(outcome)
    assert type(error) is kind
    assert isinstance(error, errors.ApiError)
    assert (error.type, error.status) == (slug, outcome.status)


@pytest.mark.parametrize(
    ("before", "repeated"), [(LOST, True), (answer(502), True), (REFUSED, False), (problem(429, "rate-limited"), False)]
)
def test_a_refusal_says_whether_the_call_may_have_been_heard_before(before: Answer | NoAnswer, repeated: bool) -> None:
    """So that a control whose answer was lost is not told as a failure."""
    attempts = attempt(SAFE, 60)
    next(attempts)
    assert isinstance(attempts.send(before), Pause)
    assert next(attempts) is SAFE
    with pytest.raises(errors.Refused) as refused:
        attempts.send(problem(409, "action-refused", executionStatus="paused", allowedActions=["resume"]))
    error = refused.value
    assert (error.repeated, error.execution_status, error.allowed) == (repeated, "paused", ("resume",))


def test_faults_come_with_their_places() -> None:
    """What is no list of objects is no list of faults."""
    listed = [{"pointer": "/steps/0", "detail": "no", "hint": "yes"}]
    error = error_of(problem(422, "invalid-definition", errors=listed))
    assert isinstance(error, errors.InvalidRequest)
    assert error.errors == tuple(listed)
    for odd in (5, None, "x", [5]):
        error = error_of(problem(422, "invalid-definition", errors=odd))
        assert isinstance(error, errors.InvalidRequest)
        assert error.errors == ()


ROW: dict[str, Any] = {
    "id": "1",
    "workflowId": None,
    "status": "waiting",
    "startedAt": "2026-01-02T03:04:05.678Z",
    "completedAt": None,
    "error": None,
    "triggeredBy": None,
    "githubRunId": None,
    "createdAt": "2026-01-02T03:04:05Z",
    "workflow": None,
    "title": None,
    "labels": {},
}


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_an_answer_with_more_keys_and_new_words_is_read() -> None:
    """A newer API adds keys and statuses."""
    row = decode(ExecutionRow, encoded(ROW | {"newKey": 3}))
    assert row.status == "waiting"
    assert row.started_at == datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    assert row.started_at.utcoffset() == timedelta(0)


def test_numbers_stay_as_they_were_sent() -> None:
    """Beyond 2^53 too."""
    more = {"input": {"n": 2**53 + 1}, "output": [2**64, 1.5, True], "context": None}
    more |= {"updatedAt": ROW["createdAt"], "definitionHash": None}
    execution = decode(Execution, encoded(ROW | more))
    assert execution.input == {"n": 9007199254740993}
    assert execution.output == [2**64, 1.5, True]
    assert body({"n": 2**53 + 1}) == b'{"n":9007199254740993}'


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"<html>", "not JSON"),
        (b"\xff", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "/ is not"),
        (b"null", "/ is not"),
        (encoded({name: ROW[name] for name in ROW if name != "id"}), "/id is missing"),
        (encoded(ROW | {"id": 5}), "/id is not"),
        (encoded(ROW | {"id": None}), "/id is not"),
        (encoded(ROW | {"createdAt": "yesterday"}), "/createdAt"),
        (encoded(ROW | {"createdAt": "2026-01-02T03:04:05"}), "/createdAt"),
        (encoded(ROW | {"createdAt": 5}), "/createdAt"),
        (encoded(ROW | {"labels": []}), "/labels"),
    ],
)
def test_what_cannot_be_read_says_where(content: bytes, place: str) -> None:
    """Instead of an AttributeError later."""
    with pytest.raises(Unreadable, match=place):
        decode(ExecutionRow, content)


def test_values_inside_values_are_read() -> None:
    """Lists, objects, inherited keys, and no number for a bool."""
    times = {"createdAt": ROW["createdAt"], "updatedAt": ROW["createdAt"]}
    workflow = {"id": "1", "name": "n", "version": 2, "enabled": True, "description": None, "definitionHash": "h"}
    found = decode(WorkflowDetail, encoded(workflow | times | {"definition": {"steps": []}}))
    assert (found.name, found.version, found.definition) == ("n", 2, {"steps": []})
    assert isinstance(found, Workflow)
    with pytest.raises(Unreadable, match="/version"):
        decode(Registered, encoded(workflow | {"created": True, "version": True}))
    batch = {"executions": [{"executionId": "1", "workflowId": None, "url": "/"}, {"executionId": 5}]}
    with pytest.raises(Unreadable, match="/executions/1/executionId"):
        decode(AcceptedBatch, encoded(batch))
    with pytest.raises(Unreadable, match="/step is missing"):
        decode(StepDetail, encoded({"attempts": []}))


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, "\ud800", object(), {("a",): 1}])
def test_what_is_no_json_is_not_sent(value: Any) -> None:
    """And is a ValueError, as for any other function."""
    with pytest.raises(Unsendable, match="JSON"):
        submit("flow", input={"n": value})
    assert issubclass(Unsendable, ValueError)


def test_paths_are_quoted() -> None:
    """No name leads elsewhere."""
    assert path("a", "b/c?d#é", q=None, label=["x:1", "y:2"]) == "/a/b%2Fc%3Fd%23%C3%A9?label=x%3A1&label=y%3A2"


def test_every_start_has_a_key_of_its_own() -> None:
    """Or the caller's; a key that no header holds is refused."""
    keys = {next(submit("flow")).headers["Idempotency-Key"] for _ in range(3)}  # type: ignore[union-attr]
    assert len(keys) == 3
    assert next(submit("flow", idempotency_key="k")).headers["Idempotency-Key"] == "k"  # type: ignore[union-attr]
    for key in ("", "é", "a\nb", " a", "x" * 256):
        with pytest.raises(Unsendable, match="idempotency"):
            submit("flow", idempotency_key=key)
    for both in ({}, {"workflow": "a", "definition": {}}):
        with pytest.raises(Unsendable, match="not both"):
            submit(**both)  # type: ignore[arg-type]


def sizes(requests: list[Request]) -> list[int]:
    """How many requests each call carries."""
    flow = submit_many(requests, definition={"steps": []})
    found = []
    try:
        call = next(flow)
        while True:
            assert isinstance(call, Call)
            sent = json.loads(call.content or b"")
            assert sent["definition"] == {"steps": []}
            found.append(len(sent["requests"]))
            made = [{"executionId": one["idempotencyKey"], "workflowId": None, "url": ""} for one in sent["requests"]]
            call = flow.send(answer(202, {"executions": made, "total": len(made)}))
    except StopIteration as done:
        accepted = done.value
    assert [one.execution_id for one in accepted] == [request.idempotency_key for request in requests]
    return found


def test_many_requests_are_sent_in_batches() -> None:
    """By number and by weight, in order, each request with its key."""
    assert sizes([]) == []
    assert sizes([Request()] * BATCH) == [BATCH]
    assert sizes([Request({"n": n}) for n in range(2 * BATCH + 1)]) == [BATCH, BATCH, 1]
    heavy = Request({"text": "x" * (BATCH_BYTES // 2)})
    assert sizes([heavy, heavy, heavy]) == [1, 1, 1]


@pytest.mark.parametrize(
    ("timeout", "sent", "kind"),
    [
        (0, True, ExecutionTimeout),  # its own deadline cut the answer off
        (0, False, ConnectionFailed),
        (60, True, ConnectionFailed),
        (None, True, ConnectionFailed),
    ],
)
def test_an_answer_that_a_wait_did_not_wait_for_is_no_lost_connection(
    timeout: float | None, sent: bool, kind: type[Exception]
) -> None:
    waiting = wait("e", timeout)
    assert isinstance(next(waiting), Call)
    with pytest.raises(kind):
        waiting.throw(ConnectionFailed("did not answer in time", sent=sent))


def test_both_clients_offer_the_same() -> None:
    """Operation by operation, with the same parameters and docstrings."""

    def offers(kind: type) -> dict[str, Any]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {
            name: (inspect.signature(method), inspect.getdoc(method))
            for name, method in methods
            if name not in ("close", "aclose") and not name.startswith("_")
        }

    assert offers(Client) == offers(AsyncClient)
    assert len(offers(Client)) == 46
    assert all(documented for _, documented in offers(Client).values())


def test_the_key_is_never_shown(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a repr, not in a message, not in a log at its loudest."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("AFU9_API_KEY", KEY)
    with Client("http://127.0.0.1:1", patience=0) as client, pytest.raises(ConnectionFailed) as failed:
        client.submit("flow")
    assert client._headers["Authorization"] == f"Bearer {KEY}"
    shown = [repr(client), str(client), str(failed.value), repr(failed.value), caplog.text]
    assert all("s3cr3t" not in text.lower() for text in shown)
    assert "127.0.0.1:1" in repr(client)
    for bad in ("s3cr3t\nX-Evil: 1", "s3cr3t é", "two s3cr3ts", "s3cr3t\x00"):
        with pytest.raises(Unsendable) as refused:
            Client("http://127.0.0.1:1", bad)
        assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "ftp://h",
        "http://",
        "http://h:99999",
        "http://h:x",
        "http://u:s3cr3t@h",
        "http://h/?a=1",
        "http://[x",
    ],
)
def test_an_address_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    """It may hold a password."""
    with pytest.raises(Unsendable) as refused:
        Client(url)
    assert "s3cr3t" not in str(refused.value)


def test_defaults_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given wins."""
    monkeypatch.setenv("AFU9_URL", "https://afu9.example.com/flow/")
    monkeypatch.setenv("AFU9_API_KEY", KEY)
    with Client() as client:
        assert client.base_url == "https://afu9.example.com/flow"
        assert client._headers["Authorization"] == f"Bearer {KEY}"
    with Client("http://h", "") as client:
        assert client.base_url == "http://h"
        assert "Authorization" not in client._headers


ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in REFUSED or name.startswith("control_center.") and ".client" not in name:
            raise ImportError(f"{name} is not installed here")

REFUSED = {"fastapi", "starlette", "uvicorn", "pydantic", "pydantic_settings", "psycopg", "psycopg_pool", "dramatiq", "redis",
           "click", "rich", "yaml", "jsonschema", "prometheus_client", "persistence", "orchestrator", "workers", "tests"}
sys.meta_path.insert(0, Refuse())

import asyncio
from control_center.client import AsyncClient, Client, ConnectionFailed

with Client("http://127.0.0.1:1", patience=0) as client:
    try:
        client.submit("flow", input={"n": 1})
    except ConnectionFailed:
        print("sync")

async def main():
    async with AsyncClient("http://127.0.0.1:1", patience=0) as client:
        try:
            await client.submit("flow", input={"n": 1})
        except ConnectionFailed:
            print("async")

asyncio.run(main())
"""


def test_it_stands_alone() -> None:
    """Nothing but httpx and the standard library, so that other services can use it without our servers' packages."""
    command = [sys.executable, "-W", "error", "-c", ALONE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["sync", "async"], "")
