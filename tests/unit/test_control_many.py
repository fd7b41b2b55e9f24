"""What `afu9 bulk` asks before it does anything."""

from __future__ import annotations

import io
from typing import Any

import click
import pytest

from control_center.control_many import _ask, _fate
from persistence.errors import InvalidInput


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def counted(total: int, *, more: bool = False) -> dict[str, Any]:
    return {"action": "cancel", "total": total, "takes": total - 1, "more": more}


@pytest.mark.parametrize(
    ("total", "more", "typed", "goes_on"),
    [
        (100, False, "y", True),
        (100, False, "n", False),
        (100, False, "", False),
        (100, False, "100", False),
        (101, False, "y", False),
        (101, False, "", False),
        (101, False, "100", False),
        (101, False, "101", True),
        (100_000, True, "100000", True),
        (100_000, True, "100001", False),
    ],
)
def test_of_more_than_a_hundred_the_number_is_typed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    total: int,
    more: bool,
    typed: str,
    goes_on: bool,
) -> None:
    """So that nobody cancels a thousand by habit. stdout stays free for data."""
    monkeypatch.setattr("sys.stdin", Terminal(f"{typed}\n"))
    if goes_on:
        _ask(counted(total, more=more))
    else:
        with pytest.raises(click.Abort):
            _ask(counted(total, more=more))
    out, talk = capsys.readouterr()
    assert out == ""
    assert f"{total - 1} of them take it" in talk


def test_where_nobody_can_answer_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """-y is needed."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(InvalidInput, match="-y"):
        _ask(counted(1))


@pytest.mark.parametrize(
    ("status", "refused", "failed", "code"),
    [
        ("completed", 0, 0, 0),
        ("completed", 3, 0, 0),
        ("completed", 3, 1, 7),
        ("cancelled", 0, 0, 8),
        ("cancelled", 1, 1, 8),
    ],
)
def test_a_job_that_was_waited_for_ends_as_it_fared(status: str, refused: int, failed: int, code: int) -> None:
    """A refusal is no failure: the execution did not take the action any more."""
    assert _fate({"status": status, "refused": refused, "failed": failed}) == code
