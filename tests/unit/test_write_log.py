"""A log for machines: one JSON object a line, with the ids of what it is about, and without secrets."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from persistence.settings import Settings
from persistence.transitions import Claim
from persistence.write_log import BUSY_WITH, JsonLines, about, begin_log, name_worker
from workers.secrets import RedactingFilter, Secrets

EXECUTION = UUID("019c0000-0000-7000-8000-00000000000a")
CLAIM = Claim(UUID(int=1), 3, EXECUTION, 0, "", {}, 0)
IDS = {"execution_id": str(EXECUTION), "step_id": str(CLAIM.step_id), "attempt": 3, "trace_id": EXECUTION.hex}
SECRET = "s3cr3t-value"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the root logger writes as JSON, with a worker's filter."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonLines())
    handler.addFilter(RedactingFilter(Secrets({"KEY": SECRET})))
    root = logging.getLogger()
    before, root.handlers, level = root.handlers, [handler], root.level
    root.setLevel(logging.INFO)
    yield text
    root.handlers = before
    root.setLevel(level)
    BUSY_WITH.set(None)


def only(text: io.StringIO) -> dict[str, Any]:
    (line,) = text.getvalue().splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_line_says_when_how_bad_who_and_what(lines: io.StringIO) -> None:
    """In UTC; several lines of text stay one line."""
    logging.getLogger("a.b").warning("%d steps\nwait: é", 3)
    line = only(lines)
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "WARNING", "logger": "a.b", "message": "3 steps\nwait: é"}


def test_a_line_names_the_attempt_of_its_thread(lines: io.StringIO) -> None:
    """And no other thread's; after the attempt nothing is left of it."""
    BUSY_WITH.set((CLAIM, "fetch"))
    other = threading.Thread(target=logging.getLogger("x").info, args=("elsewhere",))
    other.start()
    other.join()
    logging.getLogger("x").info("here")
    elsewhere, here = map(json.loads, lines.getvalue().splitlines())
    assert "execution_id" not in elsewhere
    assert {name: here[name] for name in IDS} == IDS
    assert here["step"] == "fetch"


def test_what_a_line_says_itself_goes_first(lines: io.StringIO) -> None:
    """A thread records for others: their ids are not mixed with its own."""
    BUSY_WITH.set((Claim(UUID(int=9), 1, UUID(int=8), 0, "", {}, 0), "mine"))
    logging.getLogger("x").info("not recorded", extra=about(CLAIM))
    line = only(lines)
    assert {name: line[name] for name in IDS} == IDS
    assert "step" not in line


def test_a_worker_is_named_once_it_is_known(lines: io.StringIO) -> None:
    """By its id."""
    name_worker(UUID(int=5))
    logging.getLogger("x").info("ready")
    assert only(lines)["worker"] == str(UUID(int=5))


def test_no_secret_is_in_a_message_or_a_traceback(lines: io.StringIO) -> None:
    """The traceback is a member of the object."""
    try:
        raise ValueError(f"refused: {SECRET}")
    except ValueError:
        logging.getLogger("x").exception("the answer was %s", SECRET)
    line = only(lines)
    assert SECRET not in lines.getvalue()
    assert "Traceback" in line["exception"]
    assert "ValueError: refused: " in line["exception"]


@pytest.mark.parametrize(("form", "kind"), [("text", logging.Formatter), ("json", JsonLines)])
def test_the_setting_chooses_the_form(lines: io.StringIO, form: str, kind: type) -> None:
    """Also where the root logger has a handler already."""
    logging.getLogger().handlers[0].setFormatter(logging.Formatter())
    begin_log(Settings(log_format=form))
    assert type(logging.getLogger().handlers[0].formatter) is kind
