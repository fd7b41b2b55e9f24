"""What the command line does without services: reading arguments, drawing timelines, starting quickly."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from control_center.cli import COMMANDS, invoke
from control_center.progress import iso
from control_center.read_files import read_input
from control_center.source import Whole
from control_center.timeline import render_execution
from control_center.watch_execution import entries
from persistence.errors import InvalidInput, NotFound


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("n=42", 42),
        ("n=-1.5", -1.5),
        ("n=true", True),
        ("n=null", None),
        ("n=1.10", "1.10"),
        ("n=007", "007"),
        ("n=1e5", "1e5"),
        ("n=main", "main"),
        ("n=a=b", "a=b"),
        ("n=", ""),
        ('n={"a": [1]}', {"a": [1]}),
        ('n="42"', "42"),
        ("n=[1,2]", [1, 2]),
        ("n=[not json", "[not json"),
    ],
)
def test_a_value_is_json_where_it_reads_back_as_written(pair: str, value: Any) -> None:
    """A version like 1.10 stays text."""
    assert read_input([pair]) == {"n": value}


def test_input_comes_from_files_too(tmp_path: Path) -> None:
    """@file as a whole, key=@file as one value."""
    (tmp_path / "all.yaml").write_text("a: 1\nb: two\n")
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "object.json").write_text('{"deep": true}')
    pairs = [f"@{tmp_path}/all.yaml", f"t=@{tmp_path}/text.txt", f"o=@{tmp_path}/object.json", "b=3"]
    assert read_input(pairs) == {"a": 1, "b": 3, "t": "hello", "o": {"deep": True}}


def test_bad_input_pairs_are_refused(tmp_path: Path) -> None:
    """With a word about what is expected."""
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="key=value"):
        read_input(["nonsense"])
    with pytest.raises(InvalidInput, match="must be an object"):
        read_input([f"@{tmp_path}/list.json"])
    with pytest.raises(InvalidInput, match="not UTF-8"):
        read_input([f"a=@{tmp_path}/bytes"])
    with pytest.raises(NotFound, match="no file"):
        read_input(["a=@/nowhere/at/all"])


def test_times_are_utc_with_milliseconds() -> None:
    """As the original shows them."""
    assert iso(datetime(2025, 12, 11, 20, 0, 5, 234567, tzinfo=UTC)) == "2025-12-11T20:00:05.234Z"
    assert iso(None) is None


def test_a_timeline_shows_bars_retries_and_failed_attempts() -> None:
    """Steps one below the other; what failed on the way stands below its step."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    step_id = uuid4()

    def step(name: str, status: str, start: int | None, end: int | None, **more: Any) -> dict[str, Any]:
        moment = [None if ms is None else begin + timedelta(milliseconds=ms) for ms in (start, end)]
        duration = None if start is None or end is None else end - start
        facts = {"id": uuid4(), "tool": "t.x", "retry_count": 0, "error": None, "error_kind": None}
        return facts | {
            "step_name": name,
            "status": status,
            "started_at": moment[0],
            "claimed_at": moment[0],
            "completed_at": moment[1],
            "duration_ms": duration,
            **more,
        }

    execution = {
        "id": uuid4(),
        "status": "failed",
        "title": None,
        "workflow_name": "demo",
        "started_at": begin,
        "completed_at": begin + timedelta(milliseconds=100),
        "error": "step two: no",
        "output": {"a": 1},
    }
    steps = [
        step("one", "completed", 0, 50, id=step_id, retry_count=1),
        step("two", "failed", 50, 100, error="no", error_kind="tool_error"),
        step("three", "pending", None, None),
    ]
    events = [{"step_id": step_id, "attempt": 1, "event": "attempt_failed", "message": "once"}]
    lines = list(render_execution(execution, steps, events))
    assert lines[0].startswith("✕ demo ")
    assert lines[1] == f"trace {execution['id'].hex}"
    assert lines[3].startswith("  ✓ one    t.x  " + "█" * 20 + "·" * 20)
    assert lines[3].endswith("50 ms  1 retry")
    assert lines[4] == "      attempt 1: failed: once"
    assert "·" * 20 + "█" * 20 in lines[5]
    assert lines[6] == "      tool_error: no"
    assert lines[7] == "  ○ three  t.x"
    assert "error: step two: no" in lines


def test_help_names_every_command_and_imports_none_of_them() -> None:
    """Heavy modules load inside the commands, so help and completion are quick."""
    script = "import sys; from control_center.cli import invoke; invoke(['--help']); print(sorted(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for name in COMMANDS:
        assert f"  {name} " in answer.stdout
    for heavy in ("psycopg", "dramatiq", "redis", "httpx", "pydantic", "rich"):
        assert f"'{heavy}'" not in answer.stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["run"], ["ls", "--limit", "0"], ["show"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """And says what was expected."""
    assert invoke(arguments) == 2
    assert "Error" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """So that its module imports and its options parse."""
    assert invoke([name, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_a_log_keeps_the_order_of_cause_within_a_millisecond() -> None:
    """Started, tried, completed, the next step, the end; what concerns no step has none."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)

    def step(name: str, **more: Any) -> dict[str, Any]:
        facts = {"id": name, "step_name": name, "tool": "t.x", "attempt": 1, "error": None, "status": "completed"}
        return facts | {"started_at": begin, "completed_at": begin} | more

    def event(step_id: str | None, at: datetime, **more: Any) -> dict[str, Any]:
        facts = {"step_id": step_id, "created_at": at, "attempt": None, "kind": None, "actor": None, "message": None}
        return facts | more

    steps = [step("b", attempt=2), step("a"), step("c", started_at=None, completed_at=None, status="pending")]
    lost = event(
        "b", begin + timedelta(microseconds=900), event="attempt_failed", attempt=1, kind="lost", message="gone"
    )
    paused = event(None, begin - timedelta(seconds=1), event="paused", actor="ann", message="lunch")
    execution = {"completed_at": begin, "status": "failed", "error": "no"}
    early = event("b", begin, event="attempt_failed", attempt=3, message="read before its step was")
    found = entries(Whole(execution, steps, [lost, paused, early]))
    assert [(one.step, one.attempt, one.what, one.words) for one in found] == [
        ("", 0, "paused", "ann: lunch"),
        ("b", 1, "started", "t.x"),
        ("b", 1, "failed", "lost: gone"),
        ("b", 2, "completed", ""),
        ("a", 1, "started", "t.x"),
        ("a", 1, "completed", ""),
        ("", 0, "failed", "no"),
    ]
