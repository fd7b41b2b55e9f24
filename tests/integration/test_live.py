"""Live updates over real sockets, on real rows and hints: what is told, what is resumed, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from jsonschema import Draft202012Validator
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from control_center.api.live import hub, outbox
from control_center.api.live import socket as live_socket
from control_center.api.live.messages import FROM_SERVER, Refusal
from control_center.keys import Trust
from orchestrator.broker import StepBroker
from orchestrator.outcome import Failed
from orchestrator.push import push_steps
from orchestrator.submit import Request, Submitter
from persistence.executions import get_execution_steps
from persistence.pool import Pool, run
from persistence.settings import Settings
from persistence.transitions import Submitted
from tests.api_server import running_api
from tests.fleet import ROOT
from tests.integration.test_api import make_key
from tests.integration.test_transitions import WORKER, renew, take
from tests.live_reader import FRAME, SCHEMA, Message, OneWorker, Reader, ended, reading, step_is, topic_of
from tests.workflows import sequence

CLIENT = Draft202012Validator(SCHEMA | {"$ref": "#/$defs/ClientMessage", "anyOf": [True]})


@pytest.fixture
def api(settings: Settings) -> Iterator[str]:
    with running_api(settings) as url:
        yield url


@pytest.fixture
def guarded(settings: Settings) -> Iterator[str]:
    with running_api(settings, Trust(keys=True)) as url:
        yield url


@pytest.fixture
def broker(settings: Settings) -> Iterator[StepBroker]:
    opened = StepBroker(settings.redis_url, namespace=settings.namespace)
    yield opened
    opened.close()


@pytest.fixture
def worker(pool: Pool, broker: StepBroker) -> OneWorker:
    renew(pool, WORKER)
    return OneWorker(pool, broker)


@pytest.fixture
def submit(pool: Pool, broker: StepBroker) -> Callable[..., Submitted]:
    """A sequence of so many steps."""

    def one(count: int = 3, **options: Any) -> Submitted:
        return Submitter(pool, broker).submit(sequence(count, **options), [Request(input={"n": 7})])[0]

    return one


@pytest.fixture
def no_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only hints, so that a test of them cannot pass without."""
    monkeypatch.setattr(hub, "SWEEP", 3600.0)


def assert_rows_were_told(pool: Pool, reader: Reader, execution_id: UUID) -> None:
    """The newest word on each step is what its row says."""
    told = {
        one["data"]["index"]: one["data"] for one in reader.events(topic_of(execution_id)) if "index" in one["data"]
    }
    for row in get_execution_steps(pool, execution_id):
        if row["attempt"]:
            shown = told[row["step_index"]]
            assert (shown["status"], shown["attempt"], shown["id"]) == (row["status"], row["attempt"], str(row["id"]))


@pytest.mark.usefixtures("no_sweeps")
def test_a_run_is_followed_from_its_first_claim_to_its_end(
    api: str, pool: Pool, worker: OneWorker, submit: Callable[..., Submitted]
) -> None:
    """Each step that ends is told within a moment, in the order in which it happened; the execution's end comes last."""
    submitted = submit(4)
    topic = topic_of(submitted.execution_id)
    with reading(api, topic) as reader:
        ready = submitted.ready
        for index in range(4):
            ready = worker.run(ready[0]).ready
            reader.until(step_is(f"step_{index}", "completed"), 3)
        last = reader.until(ended("completed"), 3)
    ends = [state for state in reader.states(topic) if state[1] == "completed"]
    assert ends == [*((f"step_{index}", "completed") for index in range(4)), ("execution", "completed")]
    assert last["data"]["workflow"] == "sequence"
    assert "input" not in last["data"]
    assert_rows_were_told(pool, reader, submitted.execution_id)
    positions = [int(one["position"], 16) for one in reader.events(topic)]
    assert positions == sorted(positions)


@pytest.mark.usefixtures("no_sweeps")
def test_a_claim_is_seen_although_it_sends_no_hint(
    api: str, pool: Pool, worker: OneWorker, submit: Callable[..., Submitted]
) -> None:
    """While a step waits for a worker its topic is looked at again."""
    submitted = submit(2)
    with reading(api, topic_of(submitted.execution_id)) as reader:
        (second,) = worker.run(submitted.ready[0]).ready
        reader.until(step_is("step_1", "pending"), 3)
        take(pool, second)
        reader.until(step_is("step_1", "running"), 3)


@pytest.mark.usefixtures("no_sweeps")
def test_the_list_tells_of_starts_and_ends(api: str, worker: OneWorker, submit: Callable[..., Submitted]) -> None:
    """Of every execution, each once; steps in between are no news there."""
    with reading(api, "executions") as reader:
        submitted = submit(3)
        reader.until(ended("running"), 3)
        worker.run_all(submitted.ready[0])
        reader.until(ended("completed"), 3)
        other = submit(1)
        reader.until(lambda one: one["op"] == "event" and one["data"]["id"] == str(other.execution_id), 3)
    assert [one["data"]["status"] for one in reader.events("executions")] == ["running", "completed", "running"]


@pytest.mark.usefixtures("no_sweeps")
def test_a_failed_attempt_and_its_retry_are_told(
    api: str, pool: Pool, broker: StepBroker, submit: Callable[..., Submitted]
) -> None:
    """Charged steps too."""
    renew(pool, WORKER)
    failing = OneWorker(pool, broker, echo=lambda **_: Failed("unavailable", "it is away", "not_executed"))
    submitted = submit(1, retry={"maxAttempts": 2, "initialDelayMs": 60_000})
    with reading(api, topic_of(submitted.execution_id)) as reader:
        failing.run(submitted.ready[0])
        found = reader.until(step_is("step_0", "pending"), 3)
    assert (found["data"]["error"], found["data"]["retryCount"]) == ("it is away", 1)
    assert found["data"]["nextRunAt"] is not None


def test_a_reader_that_comes_back_misses_nothing(
    api: str, pool: Pool, worker: OneWorker, submit: Callable[..., Submitted]
) -> None:
    """It gives its position; what changed meanwhile comes first, for each of its topics."""
    submitted = submit(6)
    topic = topic_of(submitted.execution_id)
    with reading(api, topic, "executions") as before:
        ready = worker.run(submitted.ready[0]).ready
        before.until(step_is("step_0", "completed"))
    for _ in range(4):
        ready = worker.run(ready[0]).ready
    missed = submit(1)
    after = {name: before.position(name) for name in (topic, "executions")}
    with reading(api, topic, "executions", after=after) as again:
        worker.run(ready[0])
        again.until(ended("completed"))
        again.until(lambda one: one["op"] == "event" and one["data"]["id"] == str(missed.execution_id))
    before.heard += again.heard
    assert_rows_were_told(pool, before, submitted.execution_id)
    told = {state for state in again.states(topic) if state[1] == "completed"}
    assert {(f"step_{index}", "completed") for index in range(1, 6)} <= told


def test_a_transaction_that_commits_late_is_told(
    api: str, pool: Pool, worker: OneWorker, broker: StepBroker, submit: Callable[..., Submitted]
) -> None:
    """Its rows carry its start: here both other executions and later steps of its own are told before it commits."""
    submitted = submit(2)
    topic = topic_of(submitted.execution_id)
    claim = take(pool, submitted.ready[0])
    with reading(api, topic, "executions") as reader, pool.connection() as slow:
        with slow.transaction():
            record = json.dumps([{"step": str(claim.step_id), "attempt": claim.attempt, "output": {}, "input": {}}])
            slow.execute("SELECT complete_steps(%s::jsonb, NULL, 0, false)", (record,))
            with pool.connection() as other:
                other.execute(
                    "UPDATE workflow_executions SET updated_at = now() WHERE id = %s", (submitted.execution_id,)
                )
            push_steps(broker, (), changed=[submitted.execution_id])
            newer = reader.until(
                lambda one: one["op"] == "event" and one["topic"] == topic and "index" not in one["data"]
            )
        push_steps(broker, (), changed=[submitted.execution_id])
        late = reader.until(step_is("step_0", "completed"), 3)
    (row, _) = get_execution_steps(pool, submitted.execution_id)
    told_up_to = int(newer["position"], 16)
    assert row["updated_at"].timestamp() * 1e6 < told_up_to, "the test is to have a row older than what was told"
    assert int(late["position"], 16) >= told_up_to


def test_a_sweep_reaches_back_before_the_longest_transaction(
    api: str, pool: Pool, submit: Callable[..., Submitted]
) -> None:
    """No hint tells of this row, and its time is half a minute old."""
    submitted = submit(2)
    with reading(api, topic_of(submitted.execution_id)) as reader, pool.connection() as connection:
        connection.execute(
            """UPDATE workflow_steps SET status = 'running', attempt = 1, dispatch_after = NULL,
               created_at = now() - interval '1 hour', updated_at = now() - interval '30 seconds' WHERE id = %s""",
            (submitted.ready[0].step_id,),
        )
        reader.until(step_is("step_0", "running"), 2 * hub.SWEEP)


def test_too_many_changes_are_a_resync(
    api: str, worker: OneWorker, submit: Callable[..., Submitted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that comes back after more than can be told reads anew, and then hears on."""
    monkeypatch.setattr("control_center.api.live.read_changes.STEPS_AT_MOST", 3)
    submitted = submit(6)
    topic = topic_of(submitted.execution_id)
    with reading(api, topic) as first:
        position = first.position(topic)
    ready = submitted.ready
    for _ in range(5):
        ready = worker.run(ready[0]).ready
    with reading(api, topic, after={topic: position}) as again:
        again.until(lambda one: one["op"] == "resync" and one["topic"] == topic)
        worker.run(ready[0])
        again.until(ended("completed"))


def test_an_execution_that_does_not_exist_is_said_so(api: str) -> None:
    """The socket stays."""
    topic = topic_of(uuid4())
    with reading(api) as reader:
        reader.ask(op="subscribe", topics=[topic])
        refusal = reader.until(lambda one: one["op"] == "error")
        assert refusal == {"op": "error", "code": "not-found", "topic": topic}
        reader.ask(op="ping")
        reader.until(lambda one: one["op"] == "pong")


def test_who_unsubscribes_hears_no_more(api: str, worker: OneWorker, submit: Callable[..., Submitted]) -> None:
    """Of that topic."""
    first, second = submit(1), submit(1)
    with reading(api, topic_of(first.execution_id), topic_of(second.execution_id)) as reader:
        reader.ask(op="unsubscribe", topics=[topic_of(first.execution_id)])
        reader.ask(op="ping")
        reader.until(lambda one: one["op"] == "pong")
        worker.run_all(first.ready[0])
        worker.run_all(second.ready[0])
        reader.until(ended("completed"))
    assert reader.events(topic_of(first.execution_id)) == []


@pytest.mark.parametrize(
    ("sent", "word"),
    [
        ('{"op": "shout"}', "unknown-op"),
        ('{"op": "subscribe"}', "bad-message"),
        ('{"op": "subscribe", "topics": ["workers"]}', "unknown-topic"),
        ('{"op": "subscribe", "topics": ["\\ud800"]}', "unknown-topic"),
        ('{"op": "subscribe", "topics": ["execution:x"]}', "unknown-topic"),
        ('{"op": "subscribe", "topics": ["executions"], "after": {"executions": "xyz"}}', "bad-position"),
        (
            json.dumps({"op": "subscribe", "topics": [f"execution:{UUID(int=n)}" for n in range(1000)]}),
            "too-many-topics",
        ),
        ("[]", "bad-message"),
        ("malformed", 4400),
        ("", 4400),
        ("[" * 50_000, 4400),
        ('"' + "x" * 1_000_000 + '"', 4400),
        (b'{"op": "ping"}', 4400),
    ],
)
def test_bad_input_is_answered_and_others_are_untouched(api: str, sent: str | bytes, word: str | int) -> None:
    """With a word, or a close code; never a fault of ours."""
    with reading(api, "executions") as other:
        with reading(api) as bad:
            bad.socket.send(sent)
            if isinstance(word, str):
                assert bad.until(lambda one: one["op"] == "error")["code"] == word
            else:
                with pytest.raises(ConnectionClosed) as closed:
                    bad.until(lambda one: one["op"] == "error")
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == word
        other.ask(op="ping")
        other.until(lambda one: one["op"] == "pong")


def code_of(url: str, **options: Any) -> int | None:
    """With what a socket is closed; None if it is greeted."""
    with connect(url.replace("http", "ws") + "/api/workflow/ws", **options) as opened:
        try:
            opened.recv(timeout=5)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 0
    return None


def test_a_socket_needs_a_key(guarded: str, pool: Pool) -> None:
    """In the header, or in the cookie of a page of this site."""
    key = make_key(pool, "viewer")
    assert code_of(guarded) == 4401
    assert code_of(guarded, additional_headers={"Authorization": "Bearer afu9_nobody_x"}) == 4401
    assert code_of(guarded, additional_headers={"Authorization": f"Bearer {key}"}) is None
    assert code_of(guarded, additional_headers={"Cookie": f"afu9_key={key}"}, origin=guarded) is None
    assert httpx.get(f"{guarded}/api/workflow/events?topics=executions").status_code == 401


def test_a_page_of_another_site_is_refused(guarded: str, pool: Pool) -> None:
    """Even with the user's cookie."""
    cookie = {"Cookie": f"afu9_key={make_key(pool, 'admin')}"}
    assert code_of(guarded, additional_headers=cookie, origin="https://evil.example") == 4403
    assert code_of(guarded, additional_headers=cookie | {"Sec-Fetch-Site": "cross-site"}) == 4403
    assert code_of(guarded, additional_headers=cookie | {"Sec-Fetch-Site": "same-origin"}, origin="null") is None


def test_a_revoked_key_ends_what_it_opened(guarded: str, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a heartbeat."""
    monkeypatch.setattr(live_socket, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr("control_center.api.auth.TRUSTED_FOR", 0.0)
    key = make_key(pool, "viewer")
    with reading(guarded, "executions", additional_headers={"Authorization": f"Bearer {key}"}) as reader:
        reader.until(lambda one: one["op"] == "ping")
        run(pool, "revoke_key", {"id": key.split("_")[1]})
        with pytest.raises(ConnectionClosed) as closed:
            reader.until(lambda _: False)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


class Deaf:
    """A socket that is greeted, subscribes, and reads nothing more."""

    def __init__(self, url: str, topic: str):
        parts = httpx.URL(url)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect((parts.host, parts.port or 0))
        key = b64encode(b"0123456789abcdef").decode()
        self.socket.sendall(
            f"GET /api/workflow/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._heard = b""
        self._await(b"hello")
        text = json.dumps({"op": "subscribe", "topics": [topic]}).encode()
        self.socket.sendall(b"\x81" + struct.pack("!B", 0x80 | 126) + struct.pack("!H", len(text)) + bytes(4) + text)
        self._await(b"subscribed")

    def _await(self, word: bytes) -> None:
        while word not in self._heard:
            self._heard += self.socket.recv(4096)

    def rest(self) -> bytes:
        """Reads at last, to the end."""
        chunks = []
        while chunk := self.socket.recv(65536):
            chunks.append(chunk)
        return b"".join(chunks)


def churn(pool: Pool, broker: StepBroker, ids: list[UUID], turn: int) -> None:
    """Changes them all, with a hint; each of their events has 20 KB."""
    with pool.connection() as connection:
        connection.execute(
            "UPDATE workflow_executions SET title = %s, updated_at = now() WHERE id = ANY (%s)",
            (f"{turn} " + "x" * 20_000, ids),
        )
    push_steps(broker, (), changed=ids)


def fill(pool: Pool, broker: StepBroker, good: Reader) -> None:
    """Makes ten megabytes of events, more than sockets hold; the good reader has read them all."""
    good.checked = False
    ids = [one.execution_id for one in Submitter(pool, broker).submit(sequence(1), [Request() for _ in range(50)])]
    for turn in range(10):
        churn(pool, broker, ids, turn)
        missing = {str(one) for one in ids}
        while missing:
            missing -= {
                one["data"]["id"]
                for one in good.hear(5)
                if one["op"] == "event" and (one["data"]["title"] or "").startswith(f"{turn} ")
            }


def test_a_reader_that_does_not_read_harms_no_other(
    api: str, pool: Pool, broker: StepBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left behind and its connection given up; all the others hear everything."""
    monkeypatch.setattr(live_socket, "SEND_SECONDS", 0.2)
    with reading(api, "executions") as good:
        deaf = Deaf(api, "executions")
        fill(pool, broker, good)
        deaf.socket.settimeout(10)
        heard = deaf.rest()  # to the end of the connection
        deaf.socket.close()
        assert len(heard) < 9_000_000
        good.ask(op="ping")
        good.until(lambda one: one["op"] == "pong")
    assert not any(one["op"] == "resync" for one in good.heard)


def test_a_slow_reader_hears_a_resync(
    api: str, pool: Pool, broker: StepBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it reads again, in the place of what did not fit."""
    monkeypatch.setattr(live_socket, "SEND_SECONDS", 60.0)
    monkeypatch.setattr(outbox, "SLOT", 60)
    with reading(api, "executions") as good:
        deaf = Deaf(api, "executions")
        fill(pool, broker, good)
        more = [one.execution_id for one in Submitter(pool, broker).submit(sequence(1), [Request() for _ in range(50)])]
        good.until(lambda one: one["op"] == "event" and one["data"]["id"] == str(more[-1]))
        deaf.socket.settimeout(10)
        heard = b""
        while b'"resync"' not in heard:
            heard = heard[-10:] + deaf.socket.recv(65536)
        deaf.socket.close()
    assert not any(one["op"] == "resync" for one in good.heard)


def test_a_server_that_stops_sends_its_readers_away(settings: Settings) -> None:
    """Sockets with 1012 within a second, streams with their end."""
    greeted, over = threading.Event(), threading.Event()

    def stream(url: str) -> None:
        with httpx.stream("GET", f"{url}/api/workflow/events?topics=executions", timeout=30) as answer:
            for _ in answer.iter_lines():
                greeted.set()
        over.set()

    with ExitStack() as stack:
        with running_api(settings) as url:
            readers = [stack.enter_context(reading(url, "executions")) for _ in range(5)]
            thread = threading.Thread(target=stream, args=(url,))
            thread.start()
            assert greeted.wait(5)
            asked_at = time.monotonic()
        assert time.monotonic() - asked_at < 1.5
        for reader in readers:
            with pytest.raises(ConnectionClosed) as closed:
                reader.hear(1)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
    thread.join(5)
    assert over.is_set()


def test_a_server_stops_though_a_cancellation_was_swallowed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As asyncio.wait_for may, under redis, before Python 3.12: the stop would wait for the hints' listener for ever."""
    swallowed, ended = threading.Event(), threading.Event()

    async def stubborn(*_: object) -> None:
        try:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed.set()
            await asyncio.sleep(3600)
        finally:
            ended.set()

    monkeypatch.setattr(hub, "listen", stubborn)
    with running_api(settings):
        pass
    assert swallowed.is_set()
    assert ended.is_set()


def lines(stream: Iterator[str], until: str) -> list[str]:
    """The stream's lines up to the next that holds `until`."""
    found = []
    for line in stream:
        found.append(line)
        if until in line:
            return found
    raise AssertionError(found)


def messages_of(found: list[str]) -> list[Message]:
    bodies = [json.loads(line.removeprefix("data: ")) for line in found if line.startswith("data: ")]
    for body in bodies:
        FRAME.validate(body)
    return bodies


def test_a_stream_of_events_resumes_where_it_broke(
    api: str, worker: OneWorker, submit: Callable[..., Submitted]
) -> None:
    """Last-Event-ID, as an EventSource sends it."""
    submitted = submit(4)
    url = f"{api}/api/workflow/events?topics={topic_of(submitted.execution_id)},executions"
    with httpx.stream("GET", url, timeout=15) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = answer.iter_lines()
        first = [
            *lines(stream, "event: subscribed"),
            *lines(stream, "event: subscribed"),
        ]  # what is before, it need not tell
        ready = worker.run(submitted.ready[0]).ready
        first += lines(stream, '"name": "step_0", "index": 0, "status": "completed"')
    assert first[0] == "event: hello"
    position = [line.removeprefix("id: ") for line in first if line.startswith("id: ")][-1]
    while ready:
        ready = worker.run(ready[0]).ready
    with httpx.stream("GET", url, headers={"Last-Event-ID": position}, timeout=15) as answer:
        rest = [*messages_of(first), *messages_of(lines(answer.iter_lines(), '"status":"completed"'))]
    ends = {
        one["data"]["name"]
        for one in rest
        if one.get("type") == "step.changed" and one["data"]["status"] == "completed"
    }
    assert ends == {f"step_{index}" for index in range(4)}


def test_a_silent_stream_keeps_its_connection(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With comments, which clients pass over."""
    monkeypatch.setattr("control_center.api.live.events.HEARTBEAT_SECONDS", 0.1)
    with httpx.stream("GET", f"{api}/api/workflow/events?topics=executions", timeout=5) as answer:
        assert lines(answer.iter_lines(), ": ping")


@pytest.mark.parametrize(
    "query", ["", "topics=", "topics=workers", "topics=executions,", "topics=" + ",".join(["executions"] * 3) + ",x"]
)
def test_a_stream_of_nothing_is_refused(api: str, query: str) -> None:
    """With the place of the fault."""
    answer = httpx.get(f"{api}/api/workflow/events?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    refused = httpx.get(f"{api}/api/workflow/events?topics=executions", headers={"Last-Event-ID": "x"})
    assert refused.status_code == 422


def test_the_stream_is_in_the_openapi_document(api: str) -> None:
    """With its kind of content."""
    operation = httpx.get(f"{api}/openapi.json").json()["paths"]["/api/workflow/events"]["get"]
    assert "text/event-stream" in operation["responses"]["200"]["content"]
    assert {one["name"] for one in operation["parameters"]} == {"topics", "last-event-id"}


def test_what_clients_say_here_fits_the_protocol() -> None:
    """The schema speaks of them too."""
    CLIENT.validate({"op": "subscribe", "topics": ["executions"], "after": {"executions": "1"}})
    CLIENT.validate({"op": "ping"})
    assert not CLIENT.is_valid({"op": "shout"})
    assert not FRAME.is_valid({})
    assert not FRAME.is_valid([])


def code_block(language: str) -> str:
    """The first one of this language in the reference."""
    text = (ROOT / "docs" / "api-live.md").read_text()
    return text.split(f"```{language}\n", 1)[1].split("```", 1)[0]


@pytest.mark.parametrize(("language", "program"), [("python", [sys.executable, "-c"]), ("sh", ["sh", "-c"])])
def test_the_examples_of_the_reference_run(
    api: str, worker: OneWorker, submit: Callable[..., Submitted], language: str, program: list[str]
) -> None:
    """As they stand, but for the port."""
    submitted = submit(2)
    code = code_block(language).replace("127.0.0.1:3000", api.removeprefix("http://"))
    variables = os.environ | {"EXECUTION_ID": str(submitted.execution_id)}
    with subprocess.Popen([*program, code], env=variables, stdout=subprocess.PIPE, text=True) as example:
        assert example.stdout is not None
        assert any(word in line for line in example.stdout for word in ("following", "subscribed"))
        worker.run_all(submitted.ready[0])
        assert any("execution" in line and "completed" in line for line in example.stdout)
        example.terminate()


def test_every_word_of_the_protocol_is_in_the_reference() -> None:
    """Messages, errors and close codes."""
    text = (ROOT / "docs" / "api-live.md").read_text()
    operations = [model.model_fields["op"].default for model in FROM_SERVER]
    codes = Refusal.model_fields["code"].annotation.__args__  # type: ignore[union-attr]
    closes = [
        *live_socket.CODES.values(),
        live_socket.BAD_MESSAGE,
        live_socket.AGAIN_LATER,
        outbox.TOO_SLOW,
        hub.RESTART,
    ]
    assert [word for word in [*operations, *codes, *map(str, closes)] if word not in text] == []
