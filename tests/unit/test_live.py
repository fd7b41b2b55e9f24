"""The hub's pure parts: what is news, what waits for a reader, and what a client may say."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from jsonschema import Draft202012Validator

from control_center.api.live import outbox as outboxes
from control_center.api.live.messages import (
    Message,
    Refusal,
    StepChange,
    Subscribe,
    is_topic,
    protocol_schema,
    read_position,
    understand,
    write_position,
)
from control_center.api.live.outbox import SAID, TOO_SLOW, Outbox
from control_center.api.live.topic import LONGEST, OVERLAP, REMEMBERED, Change, Topic
from persistence.pool import STATEMENT_SECONDS

COMMITTED = Path(__file__).parents[2] / "docs" / "live-protocol.json"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
EXECUTION = uuid4()
ROW = dict.fromkeys(
    [
        "workflow_id",
        "started_at",
        "completed_at",
        "error",
        "triggered_by",
        "github_run_id",
        "workflow_name",
        "title",
        "step_started_at",
        "step_completed_at",
        "duration_ms",
        "step_error",
        "error_kind",
        "tool",
        "next_run_at",
        "claimed_at",
        "cost_nanos",
        "unpriced_calls",
        "step_cost_nanos",
        "step_unpriced_calls",
    ]
) | {
    "id": EXECUTION,
    "status": "running",
    "created_at": NOON,
    "labels": {},
    "step_name": "a",
    "step_index": 0,
    "retry_count": 0,
}


def execution(seconds: float, status: str = "running", row_id: UUID = EXECUTION) -> Change:
    at = NOON + timedelta(seconds=seconds)
    return Change(row_id, "execution.changed", at, 0, status, ROW | {"id": row_id, "status": status})


def step(row_id: UUID, seconds: float, status: str = "completed", attempt: int = 1) -> Change:
    at = NOON + timedelta(seconds=seconds)
    row = ROW | {"step_id": row_id, "step_status": status, "attempt": attempt}
    return Change(row_id, "step.changed", at, attempt, status, row)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def told(outbox: Outbox) -> list[Any]:
    """What waits, taken: events as (kind, status), the rest as their op."""
    found: list[Any] = []
    while outbox.filled.is_set():
        for message in outbox.take():
            body = json.loads(message.text)
            found.append((body["type"], body["data"]["status"]) if body["op"] == "event" else body["op"])
    return found


def followed(position: datetime | None = None, name: str = f"execution:{EXECUTION}") -> tuple[Topic, Outbox]:
    """A topic that was read at noon, with a reader."""
    topic, outbox = Topic(name), Outbox()
    topic.joining[outbox] = position
    topic.begin()
    topic.tell([] if topic.execution_id is None else [execution(-60)], NOON)
    told(outbox)
    return topic, outbox


def test_what_was_told_is_not_told_again() -> None:
    """Readings overlap."""
    topic, outbox = followed()
    one = uuid4()
    for _ in range(2):
        topic.begin()
        topic.tell([execution(-60), step(one, 1)], after(2))
    assert told(outbox) == [("step.changed", "completed")]


def test_a_commit_that_appears_late_is_told() -> None:
    """Its time is older than what was told before; the next reading reaches back to it, a sweep to before any transaction."""
    topic, outbox = followed()
    topic.begin()
    topic.tell([execution(-60), step(uuid4(), 5)], after(5))
    since, overlap = topic.begin()
    assert (since, overlap) == (after(5), OVERLAP)
    topic.wide = True
    assert topic.begin() == (after(5), LONGEST)
    assert LONGEST > STATEMENT_SECONDS
    topic.tell([execution(-60), step(uuid4(), -20, "failed")], after(6))
    assert told(outbox) == [("step.changed", "completed"), ("step.changed", "failed")]
    assert topic.position == after(5)


def test_the_same_status_of_another_attempt_is_news() -> None:
    """Also in one and the same moment."""
    topic, outbox = followed()
    one = uuid4()
    for attempt in (1, 2):
        topic.begin()
        topic.tell([execution(-60), step(one, 1, "running", attempt)], after(1))
        assert told(outbox) == [("step.changed", "running")]


def test_an_execution_ends_after_its_steps() -> None:
    """Both have the time of one transaction."""
    topic, outbox = followed()
    topic.begin()
    topic.tell([execution(3, "completed"), step(uuid4(), 3)], after(4))
    assert told(outbox) == [("step.changed", "completed"), ("execution.changed", "completed")]


def test_positions_never_go_back() -> None:
    """A resumption from any of them reaches what came before it."""
    topic, outbox = followed()
    topic.begin()
    topic.tell([execution(-60), step(uuid4(), 2), step(uuid4(), 9), step(uuid4(), -3)], after(9))
    positions = [message.position or "" for message in outbox.take()]
    assert positions == sorted(positions)
    assert read_position(positions[-1]) == after(9)


def test_a_resumed_reader_is_told_what_it_missed_and_the_others_are_not() -> None:
    """From before its position on; the new ones go to all."""
    topic, old = followed()
    steps = [step(uuid4(), seconds) for seconds in (10, 20, 90)]
    topic.begin()
    topic.tell([execution(-60), *steps], after(90))
    told(old)
    resumed, fresh = Outbox(), Outbox()
    topic.joining |= {resumed: after(50), fresh: None}
    assert topic.begin() == (after(50), LONGEST)
    topic.tell([execution(-60), *steps[1:], step(uuid4(), 91, "failed")], after(92))
    assert told(old) == [("step.changed", "failed")]
    assert told(fresh) == ["subscribed"]
    assert told(resumed) == ["subscribed", *[("step.changed", "completed")] * 2, ("step.changed", "failed")]


def test_a_position_from_the_future_is_now() -> None:
    """A forged one must not hide what comes."""
    topic, outbox = followed(after(1e9))
    topic.begin()
    topic.tell([execution(-60), step(uuid4(), 1)], after(1))
    assert told(outbox) == [("step.changed", "completed")]
    assert topic.position == after(1)


def test_who_joins_during_a_reading_waits_for_the_next() -> None:
    """The one under way does not reach back far enough."""
    topic, _ = followed()
    topic.begin()
    late = Outbox()
    topic.joining[late] = after(-1000)
    topic.tell([execution(-60)], after(1))
    assert told(late) == []
    assert topic.begin() == (after(-1000), LONGEST)
    topic.tell([execution(-60), step(uuid4(), -500)], after(2))
    assert told(late) == ["subscribed", ("step.changed", "completed"), ("execution.changed", "running")]


def test_a_reading_that_was_cut_is_a_resync() -> None:
    """Only for those to whom something may be missing."""
    topic, outbox = followed()
    topic.begin()
    topic.tell([execution(-60), step(uuid4(), 10)], after(11), complete_from=after(10))
    assert told(outbox) == ["resync"]
    topic.begin()
    topic.tell([execution(-60), step(uuid4(), 12)], after(13), complete_from=after(9))
    assert told(outbox) == [("step.changed", "completed")]


def test_memory_is_bounded() -> None:
    """Of steps, what no reading can reach is forgotten, the execution never; of the list, the oldest."""
    topic, outbox = followed()
    for seconds in range(0, 4000, 10):
        topic.begin()
        topic.tell([execution(-60), step(uuid4(), seconds)], after(seconds))
    assert len(topic._seen) < 200
    assert told(outbox).count(("execution.changed", "running")) == 0
    listed, _ = followed(name="executions")
    listed.tell([execution(1, row_id=uuid4()) for _ in range(REMEMBERED + 5)], after(2))
    assert len(listed._seen) == REMEMBERED


def message(text: str = "x", position: str = "1") -> Message:
    return Message("step.changed", text, position)


def test_the_newest_state_of_a_row_replaces_the_one_that_waits() -> None:
    """A slow reader hears less, never something old after something new."""
    outbox, row = Outbox(), uuid4()
    outbox.put("t", row, message("old"))
    outbox.put("t", uuid4(), message("other"))
    outbox.put("t", row, message("new"))
    assert [one.text for one in outbox.take()] == ["other", "new"]
    assert not outbox.filled.is_set()


def test_a_topic_that_overflows_is_read_anew_and_others_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """By number of rows, and by their size together."""
    monkeypatch.setattr(outboxes, "SLOT", 3)
    outbox = Outbox()
    outbox.put("b", uuid4(), message("kept"))
    for _ in range(9):
        outbox.put("executions", uuid4(), message())
    assert [one.name for one in outbox.take()] == ["resync", "step.changed", "step.changed"]
    monkeypatch.setattr(outboxes, "BYTES", 100)
    outbox.put("executions", uuid4(), message("x" * 101))
    assert [one.name for one in outbox.take()] == ["resync"]
    assert outbox._bytes == 0


def test_a_frame_has_a_size() -> None:
    """What does not fit comes next."""
    outbox = Outbox()
    for _ in range(3):
        outbox.put("t", uuid4(), message("x" * outboxes.FRAME))
    assert [len(outbox.take()) for _ in range(3)] == [1, 1, 1]
    assert not outbox.filled.is_set()


def test_who_asks_and_never_reads_is_ended() -> None:
    """Answers wait too, up to a number."""
    outbox = Outbox()
    for _ in range(SAID + 1):
        outbox.say(message())
    assert outbox.ended == TOO_SLOW


@pytest.mark.parametrize("text", ["", "x", "{", "[" * 60_000, '{"a":' * 20_000, "NaN,"])
def test_what_is_no_json_is_told_apart(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # its kinds have different words
        understand(text)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (3, "bad-message"),
        ([], "bad-message"),
        ({}, "unknown-op"),
        ({"op": "shout"}, "unknown-op"),
        ({"op": ["ping"]}, "unknown-op"),
        ({"op": "ping", "extra": 1}, "bad-message"),
        ({"op": "subscribe"}, "bad-message"),
        ({"op": "subscribe", "topics": "executions"}, "bad-message"),
        ({"op": "subscribe", "topics": [1]}, "bad-message"),
        ({"op": "subscribe", "topics": [], "after": {"executions": 3}}, "bad-message"),
        ({"op": "unsubscribe", "topics": None}, "bad-message"),
    ],
)
def test_bad_messages_have_a_word(given: Any, code: str) -> None:
    refusal = understand(json.dumps(given))
    assert isinstance(refusal, Refusal)
    assert refusal.code == code


def test_topics_and_positions() -> None:
    """Exact forms, so that a topic has one name; a position returns as it was."""
    assert is_topic("executions")
    assert is_topic(f"execution:{EXECUTION}")
    bad = [
        f"execution:{EXECUTION}\n",
        f"execution:{str(EXECUTION).upper()}x",
        "execution:",
        "",
        "workers",
        "executions\n",
    ]
    assert [name for name in bad if is_topic(name)] == []
    moment = NOON + timedelta(microseconds=123_457)
    assert read_position(write_position(moment)) == moment
    for position in ("", "-1", "G", "f" * 17, "f" * 16, "1\n"):
        with pytest.raises(ValueError, match="not a position"):
            read_position(position)
    assert understand('{"op":"subscribe","topics":["executions"]}') == Subscribe(op="subscribe", topics=["executions"])


def test_the_committed_protocol_is_the_generated_one() -> None:
    """After a change: python -m control_center.api.live.messages > docs/live-protocol.json."""
    assert json.loads(COMMITTED.read_text()) == protocol_schema()
    Draft202012Validator.check_schema(protocol_schema())


def test_a_step_is_told_without_its_payloads() -> None:
    """What is sent has exactly the keys that the protocol says."""
    keys = {field.alias for field in StepChange.model_fields.values()}
    assert json.loads(step(uuid4(), 0).data).keys() == keys
