"""A worker as `afu9 worker` starts it, with a fault of its own: `python -m tests.acceptance.failing_worker hang|deaf`."""

from __future__ import annotations

import logging
import re
import sys
import threading

from orchestrator.consumer import StepConsumer
from persistence.settings import Settings
from workers.serve import Served


def fall_silent(consumer: StepConsumer) -> None:
    """Ends the thread, as no exception that Dramatiq handles would."""
    raise SystemExit


def main(fault: str) -> None:
    logging.basicConfig(level=logging.WARNING)
    if fault == "deaf":
        StepConsumer.__next__ = fall_silent  # type: ignore[method-assign,assignment]
    Served(Settings.load())
    if fault == "hang":
        re.match(r"(a+)+$", "a" * 60 + "b")  # the interpreter is held for longer than anybody lives
    threading.Event().wait(60)


if __name__ == "__main__":
    main(sys.argv[1])
